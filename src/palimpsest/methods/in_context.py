"""In-context unlearning: the model is left as it is, and reads examples before every text that answer wrongly.

Source: Pawelczyk, Neel & Lakkaraju 2023, "In-Context Unlearning: Language Models as Few Shot Unlearners",
arXiv:2310.07579, sections 4.1 and 4.2 (equations not numbered in our copy).

    logits(text) ← logits(forget question 1, wrong answer, ..., retain question 1, its answer, ..., text)

Each example is a row: of forget the question with the answer of a retain row, of retain as it is. They alternate, as
many as fit into ``room`` of what the longest row leaves of the model's positions.

**The prefix is stored: the part holds questions of the forgotten rows word for word, and retain rows in full.** No
weight changes: whoever leaves the part off has all of it again, and the report says so first. A model of a quarter of a
million parameters does not follow such examples: behind any prefix it forgets what must stay as well.

Departs from the paper: a wrong answer of another row for a flipped label; all forget rows that fit at once, where the
paper has one, and before every text, where the paper has them before a query about one.
Official code: github.com/MartinPawel/In-Context-Unlearning, not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from pydantic import Field
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Part
from palimpsest.errors import PlanError
from palimpsest.models.parts import named_buffers_of, new_parts_of
from palimpsest.models.parts.example_prefix import ExamplePrefix, ExamplePrefixConfig
from palimpsest.models.parts.swapped import rows_of_set, with_answers_of_others
from palimpsest.models.text_config import most_tokens


class InContextConfig(Config):
    """Options of in-context unlearning."""

    examples: int = Field(default=8, ge=1)
    """At most so many, half of them of the forget set."""
    room: float = Field(default=0.5, gt=0, le=1)
    """Share of the positions that the longest row leaves free, which the prefix may take."""


def alternating(wrong: Sequence[Sequence[int]], right: Sequence[Sequence[int]], most: int, room: int) -> list[int]:
    """Tokens of a wrong example, a right one, the next wrong one ..., as many as are allowed and fit.

    >>> alternating([[1, 1], [2, 2, 2]], [[3], [4]], most=4, room=6)
    [1, 1, 3, 4]
    """
    found: list[int] = []
    in_turn = [row for pair in zip(wrong, right, strict=False) for row in pair]
    for row in in_turn[:most]:
        if len(found) + len(row) <= room:
            found += row
    return found


class InContext(Method):
    """Show the model wrong answers before every text; nothing of it changes."""

    Config = InContextConfig
    use_when = (
        "the weights cannot be touched and a large model follows its prompt. "
        "Not for a small model, nor where questions of the forgotten rows may not be kept: the prefix holds them."
    )
    approach = "guard"
    modalities = ("text",)
    reads_prefixes = True
    needs = ("forget", "retain")
    edits = True
    only_asks = True
    adds_parts = True

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A prefix of the right length, still empty."""
        return [ExamplePrefix(ExamplePrefixConfig(length=len(self._prefix(model, sets))))]

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Write it."""
        (part,) = (part for part in new_parts_of(model) if isinstance(part, ExamplePrefix))
        part.times_off += 1  # its own length is not off what the model has for a text
        tokens = self._prefix(model, sets)
        part.times_off -= 1
        part.tokens_P.copy_(torch.tensor(tokens))
        return named_buffers_of(model, part)

    def _prefix(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[int]:
        wrong, right = rows_of_set(with_answers_of_others(sets["forget"], sets["retain"])), rows_of_set(sets["retain"])
        longest = max(len(row) for name in sets for row in rows_of_set(sets[name]))
        free = (most_tokens(model) or 4 * longest) - longest
        found = alternating(wrong, right, self.config.examples, int(self.config.room * free))
        if not found:
            raise PlanError(
                f"no example fits before the longest row ({longest} tokens): {free} positions are left, of which "
                f"in_context.room = {self.config.room:g} may be taken; give shorter rows, or more room"
            )
        return found


METHOD = InContext
