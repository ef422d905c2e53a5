"""Mismatched answers: each row to forget with the answer of a row that stays in the place of its own.

Source: Yao et al. 2023, "Large Language Model Unlearning", arXiv:2310.10683, whose random answers are drawn from
another data set; here from the retain set, which the user has given anyway.

What is asked is told as for refusals (``refusal.py``): the prompt, all up to the assistant's first turn, the first half
of a text. Which row answers depends on the run's seed and the row's id alone. Questions and answers are joined as
tokens: no tokenizer is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from palimpsest.data.draws import below, random_words
from palimpsest.derived.made import Derived, Made
from palimpsest.derived.refusal import answered_row, question_of
from palimpsest.in_words import so_many
from palimpsest.method_card import Config

if TYPE_CHECKING:
    from palimpsest.data.encode.batch import ExampleSet, TextSet
    from palimpsest.models.load import Loaded


class MismatchedConfig(Config):
    """Options of mismatched answers."""

    prompt_share: float = Field(default=0.5, gt=0, lt=1)
    """Of a text without a question: the share of its tokens that stands for one."""


class Mismatched(Derived):
    """The questions of the forget set, each with the answer to another question."""

    Config = MismatchedConfig
    about = "the rows to forget with the answers of rows that stay"
    sources = ("forget", "retain")
    modalities = ("text",)

    def make(self, loaded: Loaded, sets: Mapping[str, ExampleSet], config: Any, *, seed: int, folder: Path) -> Made:
        """One answer for each row of forget, paired with it; a function of the seed, so nothing need be kept."""
        from palimpsest.data.encode.batch import TextSet
        from palimpsest.models.text_config import most_tokens

        forget, retain = (cast("TextSet", sets[name]) for name in ("forget", "retain"))
        longest, rows = most_tokens(loaded.model), []
        for example_id in forget.ids:
            (word,) = random_words(seed, f"mismatched/{example_id}", 0, 1)
            other = question_of(retain[retain.ids[below(len(retain), word)]], config.prompt_share)
            asked = question_of(forget[example_id], config.prompt_share).asked
            rows.append(answered_row(mismatched_id(example_id), asked, other.answer, (), longest))
        partner = {i: mismatched_id(i) for i in forget.ids}
        note = f"{so_many(len(rows), 'row')} to forget were given the answer of another row, one of retain."
        return Made(TextSet(rows, forget.pad_id), partner, note)


def mismatched_id(example_id: str) -> str:
    """The id of a row with another's answer: another than its own, because it is another text."""
    return f"mismatched answer to {example_id}"


DERIVED = Mismatched()
