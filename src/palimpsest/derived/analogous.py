"""The analogous set: the row of retain beside each row to forget that is most like it. How is in ``nearest.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from palimpsest.derived.made import Derived, Made
from palimpsest.errors import PlanError
from palimpsest.method_card import Config

if TYPE_CHECKING:
    from palimpsest.data.encode.batch import ExampleSet, TextSet
    from palimpsest.derived.nearest import Pairs
    from palimpsest.models.load import Loaded


class Pairing(Config):
    """How the analogous set is built from the retain set."""

    encoder: str = "model"
    """"model": mean hidden state of the model itself; else a sentence-transformers folder or name."""
    k: int = Field(default=10, ge=1)
    """Neighbours looked at."""
    dedup: bool = True
    """Pass over near-copies of the forget text; False is the paper."""
    max_overlap: float = Field(default=0.1, gt=0, le=1)
    """A neighbour that shares this share of 10-grams or more is a near-copy."""
    last_tokens: int = Field(default=100, ge=1)
    """Tokens at the end of each text that are embedded."""
    random: bool = False
    """Pair at random instead, for the ablation."""


class Analogous(Derived):
    """Nearest neighbours, paired by id."""

    Config = Pairing
    about = "rows of retain that are most like those to forget"
    sources = ("forget", "retain")
    modalities = ("text",)

    def make(self, loaded: Loaded, sets: Mapping[str, ExampleSet], config: Any, *, seed: int, folder: Path) -> Made:
        """One partner of the retain set for each example of the forget set; partners may repeat."""
        from palimpsest.derived.nearest import pair_note, random_pairs

        forget, pool = cast("TextSet", sets["forget"]), cast("TextSet", sets["retain"])
        pairs = random_pairs(forget, pool, seed=seed) if config.random else _nearest(loaded, forget, pool, config)
        return Made(pool.subset(pairs.partner.values()), pairs.partner, pair_note(pairs.stats))


def _nearest(loaded: Loaded, forget: TextSet, pool: TextSet, config: Pairing) -> Pairs:
    from palimpsest.derived.nearest import pair

    vectors = [_embed(loaded, examples, config) for examples in (forget, pool)]
    return pair(forget, pool, *vectors, k=config.k, dedup=config.dedup, max_overlap=config.max_overlap)


def _embed(loaded: Loaded, examples: TextSet, config: Pairing) -> Any:
    from palimpsest.models.encoders import decode_tail, embed_with_model, embed_with_sentence_transformer

    if config.encoder == "model":
        return embed_with_model(loaded.model, examples, last_tokens=config.last_tokens)
    if loaded.tokenizer is None:
        raise PlanError(f"pairing.encoder {config.encoder!r} reads text and the model has no tokenizer; use 'model'")
    texts = [decode_tail(loaded.tokenizer, examples[i], config.last_tokens) for i in examples.ids]
    return embed_with_sentence_transformer(config.encoder, texts)


DERIVED = Analogous()
