"""Causal language models: each token is predicted from those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palimpsest.models.families.family import Family
from palimpsest.models.families.yardsticks import BY_TOKENS
from palimpsest.records import Example, Image, Labelled

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from palimpsest.data.encode.batch import Batch
    from palimpsest.models.loaded import How, Loaded


class Causal(Family):
    """Everything that transformers calls a causal LM, and what no other family recognises."""

    name = "causal"
    takes = "text"
    noun = "a causal LM"
    wants = "rows of text"
    alone = ("ma", "el", "es")
    serves = frozenset({"TEACHER", "LIKELIHOOD", "MOMENTS", "GREEDY", "BESIDE"})
    reads_prefixes = True
    judged_per = "token"
    level = "shadow"
    judging = BY_TOKENS
    method = "icu"
    alternatives = ("grad_diff", "icu", "npo")

    @property
    def adapter_task(self) -> str | None:
        """Generation goes through the adapter."""
        return "CAUSAL_LM"

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """Of itself none: it is asked last, and takes the rest."""
        return False

    def has_made(self, model: Any) -> bool:
        """As ``recognises``."""
        return False

    def check_config(self, config: Mapping[str, Any], source: str | Path) -> None:
        """Refuse weights for something else, and image models without a head."""
        from palimpsest.models.purposes import check_head, check_purpose

        check_purpose(config, source)
        check_head(config, source)

    def load(self, place: str | Path, config: Mapping[str, Any], how: How) -> Loaded:
        """A causal LM, half-precision weights as they are stored where that is asked for on an accelerator."""
        import torch

        from palimpsest.models.loaded import Loaded
        from palimpsest.models.pretrained import whole_model

        dtype = "auto" if how.as_stored and torch.cuda.is_available() else torch.float32
        model = whole_model(place, how.revision, dtype, "AutoModelForCausalLM", self.noun)
        return Loaded(model.eval(), None, how.source, family=self)

    def check_loaded(self, loaded: Loaded) -> None:
        """No later token may be seen."""
        from palimpsest.models.causal import check_causal

        check_causal(loaded.model, loaded.source)

    def num_outputs(self, model: Any) -> int:
        """Words of the vocabulary."""
        from palimpsest.models.text_config import text_config

        return int(text_config(model).vocab_size)

    def fits(self, example: Example) -> bool:
        """Texts of every kind, and token ids."""
        return not isinstance(example.content, Image | Labelled)

    def encode(
        self, examples: Sequence[Example], loaded: Loaded, *, max_length: int | None, truncate: bool, separator: str
    ) -> Any:
        """Token sequences, of which the labels are scored."""
        from palimpsest.data.encode.text import encode
        from palimpsest.models.text_config import most_tokens, vocabulary_of

        return encode(
            examples,
            loaded.tokenizer,
            max_length=max_length or most_tokens(loaded.model),
            truncate=truncate,
            separator=separator,
            vocab_size=vocabulary_of(loaded.model),
        )

    def head(self, model: Any) -> nn.Module | None:
        """The output embedding."""
        found: nn.Module | None = model.get_output_embeddings()
        return found

    def judged_at(self, place: str, batch: Batch, values: Tensor) -> tuple[Tensor, Tensor]:
        """The label tokens, each as much as any other."""
        judged: Tensor = batch.gather(values)
        return judged, judged.new_ones(len(judged))

    def probe(self, loaded: Loaded) -> dict[str, Tensor]:
        """Three short rows."""
        from palimpsest.models.causal import TOKENS, probe_rows
        from palimpsest.models.text_config import most_tokens, vocabulary_of

        length = min(TOKENS, most_tokens(loaded.model) or TOKENS)
        return {"input_ids": probe_rows(vocabulary_of(loaded.model) or 2, length, 0)}


FAMILIES = (Causal(),)
