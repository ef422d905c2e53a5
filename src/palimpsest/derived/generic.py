"""Generic labels: each row to forget with the tokens that a model which never read it might say in their place.

Source: Eldan & Russinovich 2023, "Who's Harry Potter? Approximate Unlearning in LLMs", arXiv:2310.02238, Eq. 1.

    v_generic = v − alpha · ReLU( v_reinforced − v ),   label_t = argmax v_generic at position t

v are the logits of the model at hand, v_reinforced those of the same model once it has learned the rows even better: an
adapter learns them for a few passes here, is asked beside the model, and is taken off again. What reinforcement makes
likelier is what is the rows' own; where it is held down, the next best token takes its place. Prompts stay as they are.

A row of the set is its tokens with labels in the place of label tokens. They are made from the row as it was, so that
the set is no text to be read: whoever trains on it asks the row and answers with its labels.

A model that knows its rows by heart is far surer of each token than a few passes more can tell: alpha = 5, the paper's,
then leaves every label what it was. Unless it is given, alpha is the first of 5, 10, 20 … at which a share of the label
tokens are others.

Departs from the paper: alpha is found; no dictionary of anchor terms, whose generic translations would be looked at in
their context (theirs was written by GPT-4, and nothing in a row says which of its words are the subject's); the
reinforced model is an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from palimpsest.derived.made import Derived, Made
from palimpsest.in_words import so_many
from palimpsest.method_card import Config
from palimpsest.models.sealed_json import read_sealed, write_sealed

if TYPE_CHECKING:
    from torch import Tensor

    from palimpsest.data.encode.batch import ExampleSet, TextSet, TokenSequence
    from palimpsest.models.load import Loaded

ROWS_OF_A_STEP = 4  # of a step
ALPHAS = tuple(5.0 * 2**k for k in range(12))


class GenericConfig(Config):
    """Options of generic labels."""

    alpha: float | None = Field(default=None, gt=0)
    """How far what reinforcement made likelier is held down; 5 in the paper, None = found by ``share``."""
    share: float = Field(default=0.4, ge=0, le=1)
    """Of the label tokens that are to be others, where alpha is found."""
    passes: int = Field(default=10, ge=1)
    """Over the rows, of the adapter that learns them."""
    rate: float = Field(default=1e-3, gt=0)
    """Its learning rate."""
    rank: int = Field(default=16, ge=1)
    """Its rank."""


def generic_logits(before_SV: Tensor, reinforced_SV: Tensor, alpha: float) -> Tensor:
    """V − alpha · ReLU(v_reinforced − v).

    >>> import torch
    >>> generic_logits(torch.tensor([[3.0, 2.0]]), torch.tensor([[3.5, 1.0]]), 4.0).tolist()
    [[1.0, 2.0]]
    """
    return before_SV.float() - alpha * (reinforced_SV.float() - before_SV.float()).clamp(min=0)


def labelled_row(row: TokenSequence, labels: list[int], row_id: str) -> TokenSequence:
    """A row with other tokens where it is scored.

    >>> from palimpsest.data.encode.batch import TokenSequence
    >>> labelled_row(TokenSequence("a", (5, 6, 7), (False, False, True)), [9], "b").tokens
    (5, 6, 9)
    """
    from palimpsest.data.encode.batch import TokenSequence

    left = iter(labels)
    return TokenSequence(
        row_id, tuple(next(left) if s else t for t, s in zip(row.tokens, row.scored, strict=True)), row.scored
    )


class Generic(Derived):
    """The rows to forget with labels that say nothing of their own."""

    Config = GenericConfig
    about = "the rows to forget with what a model might say that never read them"
    sources = ("forget",)
    modalities = ("text",)

    def make(self, loaded: Loaded, sets: Mapping[str, ExampleSet], config: Any, *, seed: int, folder: Path) -> Made:
        """One row beside each of forget; a resumed run reads the labels from the run's folder."""
        from palimpsest.data.encode.batch import TextSet

        forget, file = cast("TextSet", sets["forget"]), folder / "generic.json"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_sealed(file, labels_by_id(loaded, forget, config, seed))
        labels = read_sealed(file)
        rows = [labelled_row(forget[i], labels[i], generic_id(i)) for i in forget.ids]
        partner = {i: generic_id(i) for i in forget.ids}
        return Made(TextSet(rows, forget.pad_id), partner, _note(forget, labels))


def labels_by_id(loaded: Loaded, forget: TextSet, config: Any, seed: int) -> dict[str, list[int]]:
    """The labels of every row; the model is as it was afterwards, and so is what is drawn next."""
    import torch

    from palimpsest.models.in_passes import in_passes
    from palimpsest.models.reinforced import reinforced

    alphas = ALPHAS if config.alpha is None else (config.alpha,)
    found: list[dict[str, list[int]]] = [{} for _ in alphas]
    how = {"rank": config.rank, "passes": config.passes, "rate": config.rate, "rows": ROWS_OF_A_STEP, "seed": seed}
    with reinforced(loaded.model, forget, **how) as (model, before), torch.no_grad():
        for batch in in_passes(model, forget, ROWS_OF_A_STEP):
            said = batch.predict(model).logits_SV
            with before():
                was = batch.predict(model).logits_SV
            for into, alpha in zip(found, alphas, strict=True):
                label_S = generic_logits(was, said, alpha).argmax(-1)
                into |= {i: label_S[batch.owner_S == row].tolist() for row, i in enumerate(batch.ids)}
    own = {i: forget.batch([i]).target_S.tolist() for i in forget.ids}
    return first_apart(own, found, config.share)


def first_apart(
    own: Mapping[str, list[int]], candidates: Sequence[dict[str, list[int]]], share: float
) -> dict[str, list[int]]:
    """The first labels of which a share are others than the rows' own, else the last.

    >>> first_apart({"a": [5, 6]}, [{"a": [5, 6]}, {"a": [5, 9]}, {"a": [8, 9]}], 0.5)
    {'a': [5, 9]}
    """
    return next((labels for labels in candidates if share_of_others(own, labels) >= share), candidates[-1])


def share_of_others(own: Mapping[str, list[int]], labels: Mapping[str, list[int]]) -> float:
    """How many of the tokens of all rows are others than they were.

    >>> share_of_others({"a": [5, 6], "b": [7, 8]}, {"a": [5, 6], "b": [7, 9]})
    0.25
    """
    pairs = [pair for i, tokens in own.items() for pair in zip(tokens, labels[i], strict=True)]
    return sum(old != new for old, new in pairs) / max(1, len(pairs))


def generic_id(example_id: str) -> str:
    """The id of a row's labels: another than the row's, because it is another text."""
    return f"generic labels of {example_id}"


def _note(forget: TextSet, labels: Mapping[str, list[int]]) -> str:
    own = {i: forget.batch([i]).target_S.tolist() for i in forget.ids}
    others = f"{share_of_others(own, labels):.0%} of their tokens are others"
    return f"{so_many(len(labels), 'row')} to forget got generic labels: {others}."


DERIVED = Generic()
