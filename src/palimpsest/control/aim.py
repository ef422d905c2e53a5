"""What an edit that goes by the level looks at: is the forget set at its level of never seen?

The same level as of a controlled run (``goal.py``), and no step: an edit tries a few sizes and asks here about each.
What counts is told by ``by``:

* "words": MA of the words of a topic, where the user named them; the rest of such a row is not what is to be forgotten;
* "strength": ES of whole answers, for a model with an encoder: of an answer of one word MA is the end's as well;
* "rows": MA and ES of whole rows, or their labels, as of a controlled run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from palimpsest.control.goal import Goal
from palimpsest.control.readings import Reading, read
from palimpsest.data.encode.batch import ExampleSet


@dataclass(frozen=True)
class EditSight:
    """What was read of a model.

    Attributes:
        reached: is what is to be forgotten at its level?
        known: share of it that is right: MA, or ES by "strength".
    """

    reached: bool
    known: float


@dataclass(frozen=True)
class LevelAim:
    """The aim of an edit.

    Attributes:
        goal: of the rows that are read.
        examples: these rows.
        by: what of them counts.
        eos_ids: tokens that end a generation.
    """

    goal: Goal
    examples: ExampleSet
    by: Literal["words", "strength", "rows"] = "rows"
    eos_ids: frozenset[int] = frozenset()

    @property
    def known(self) -> float:
        """The level, in the measure of what is read."""
        return self.goal.level.es if self.by == "strength" else self.goal.level.ma

    def __call__(self, model: Any) -> EditSight:
        """Read a model as it is now; the same rows each time."""
        now = read(model, self.examples, eos_ids=self.eos_ids)
        return EditSight(self._reached(now), now.es if self.by == "strength" else now.ma)

    def _reached(self, now: Reading) -> bool:
        goal = self.goal
        ma, es = goal.mean_of(now)
        if self.by == "words":
            return now.ma <= ma + goal.slack(now)
        return now.es <= es + goal.tolerance if self.by == "strength" else goal.reached(now)
