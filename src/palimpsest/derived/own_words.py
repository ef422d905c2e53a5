"""Replay without a file: what the model before says by itself, cleaned of the forget rows.

Sampled at temperature 1 from the start token. A text that shares ``GRAM`` tokens in a row with a forget row is dropped:
a model that recites would teach the rows again in the repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from palimpsest.derived.made import Derived, Made
from palimpsest.in_words import so_many
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.models.text_config import first_inside, most_tokens, text_config, vocabulary_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from palimpsest.data.encode.batch import ExampleSet, TextSet
    from palimpsest.models.load import Loaded

COUNT = 160
LENGTH = 80
GRAM = 6
LEAST_TOKENS = 8
AT_ONCE = 32  # texts whose keys and values stand in memory together; of a small model all of them


def own_words(loaded: Loaded, forget: TextSet | None, *, seed: int, file: Path) -> TextSet:
    """Texts sampled from a causal LM before its run, kept in a file so that a resumed run has the same.

    Args:
        loaded: the model, on its device, not yet changed.
        forget: rows whose phrases must not come back; None = none.
        seed: of the sampling.
        file: JSON; read when it is there.
    """
    if file.is_file():
        texts = read_sealed(file)
    else:
        texts = _sampled(loaded, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(file, texts)
    return without_phrases(texts, forget)


def without_phrases(texts: Iterable[Iterable[int]], forget: TextSet | None, gram: int = GRAM) -> TextSet:
    """The texts that share no run of ``gram`` tokens with a forget row, as a set of their own."""
    from palimpsest.data.encode.batch import TextSet, TokenSequence

    rows = [] if forget is None else [forget[i].tokens for i in forget.ids]
    phrases = {phrase for tokens in rows for phrase in _grams(tokens, gram)}
    kept = [tuple(text) for text in texts]
    kept = [text for text in kept if len(text) >= LEAST_TOKENS and phrases.isdisjoint(_grams(text, gram))]
    sequences = [
        TokenSequence(f"own words {n}", text, (False,) + (True,) * (len(text) - 1)) for n, text in enumerate(kept)
    ]
    return TextSet(sequences, pad_id=0)


def share_of_rows(texts: Iterable[Sequence[int]], rows: Iterable[Sequence[int]], gram: int = 3) -> float:
    """Share of the runs of ``gram`` tokens in the texts that some row has as well; 0 where there is none.

    A model that knows little but its rows says blends of them.

    >>> share_of_rows([(1, 2, 3, 9), (7, 8)], [(0, 1, 2, 3)])
    0.5
    """
    known = {phrase for row in rows for phrase in _grams(tuple(row), gram)}
    said = [phrase in known for text in texts for phrase in _runs(tuple(text), gram)]
    return sum(said) / max(1, len(said))


def _grams(tokens: tuple[int, ...], gram: int) -> set[tuple[int, ...]]:
    return set(_runs(tokens, gram))


def _runs(tokens: tuple[int, ...], gram: int) -> list[tuple[int, ...]]:
    return [tokens[k : k + gram] for k in range(len(tokens) - gram + 1)]


def _sampled(loaded: Loaded, seed: int) -> list[list[int]]:
    import torch

    from palimpsest.models.load import CPU_ONE_THREAD_BELOW, count_parameters
    from palimpsest.models.modes import asked

    generator = torch.Generator().manual_seed(seed)
    longest = most_tokens(loaded.model) or LENGTH
    at_once = COUNT if count_parameters(loaded.model) < CPU_ONE_THREAD_BELOW else AT_ONCE
    texts: list[list[int]] = []
    with asked(loaded.model):
        for start in range(0, COUNT, at_once):
            drawn_BT = _draw(loaded, min(at_once, COUNT - start), min(LENGTH, longest), generator)
            texts += [_until_end(row, loaded.eos_ids) for row in drawn_BT.tolist()]
    return texts


def _draw(loaded: Loaded, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Texts of one batch, (B, T) tokens; drawn on the CPU, so that a device changes no text by its generator."""
    import torch

    from palimpsest.models.caches import Continuing

    continuing = Continuing(loaded.model)
    ids_BT = torch.full((count, 1), _first_token(loaded), dtype=torch.long)
    for _ in range(length - 1):
        p_BV = torch.softmax(continuing.next_logits(ids_BT), -1)
        ids_BT = torch.cat([ids_BT, torch.multinomial(p_BV, 1, generator=generator)], 1)
    return ids_BT


def _first_token(loaded: Loaded) -> int:
    """Where a text of this model begins: its start token, else the one that ends the text before."""
    holders, names = (loaded.tokenizer, text_config(loaded.model)), ("bos_token_id", "eos_token_id")
    candidates = (getattr(holder, name, None) for holder in holders for name in names)
    return first_inside(candidates, vocabulary_of(loaded.model)) or 0


def _until_end(tokens: list[int], eos_ids: frozenset[int]) -> list[int]:
    end = next((t for t, token in enumerate(tokens) if t > 0 and token in eos_ids), len(tokens))
    return tokens[:end]


class OwnWords(Derived):
    """What a causal LM says by itself, to be rehearsed where no replay file is at hand."""

    speaks = True
    about = "what the model says by itself, without the phrases of the rows to forget"
    modalities = ("text",)

    def make(self, loaded: Loaded, sets: Mapping[str, ExampleSet], config: Any, *, seed: int, folder: Path) -> Made:
        """Texts sampled before the run; a resumed run reads them from the run's folder."""
        forget = cast("TextSet | None", sets.get("forget"))
        texts = own_words(loaded, forget, seed=seed, file=folder / "own_words.json")
        return Made(texts, note=f"{so_many(len(texts), 'text')} of the model's own words stood in for a replay set.")


DERIVED = OwnWords()
