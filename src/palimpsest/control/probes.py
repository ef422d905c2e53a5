"""The rows a controlled run looks at: the forget set in turns, and the same few of the other sets each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.control.goal import Used, used
from palimpsest.control.readings import Reading, read
from palimpsest.control.settings import Control
from palimpsest.data.draws import shuffled
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.models.load import Loaded

ROUND_ROWS = 24  # retain rows that are read in a round; all of the probe at a cooling
FULL_ROUND = 4  # steps; of a shorter round the reading would cost half as much as the steps, so fewer rows are read


@dataclass(frozen=True)
class Watched:
    """A set under a floor.

    Attributes:
        examples: where its rows are.
        ids: of the probe.
        before: their reading under the model before.
        eos_ids: tokens that end a generation.
    """

    examples: ExampleSet
    ids: tuple[str, ...]
    before: Reading
    eos_ids: frozenset[int] = frozenset()

    @classmethod
    def of(cls, loaded: Loaded, examples: ExampleSet, limit: int, seed: int, name: str) -> Watched:
        """A probe of at most ``limit`` rows, drawn with the seed, and their reading now."""
        ids = tuple(shuffled(examples.ids, seed, f"{name}/probe", 0)[:limit])
        return cls(examples, ids, read(loaded.model, examples, ids, eos_ids=loaded.eos_ids), loaded.eos_ids)

    def now(self, model: Any, most: int | None = None) -> tuple[Reading, Reading]:
        """Before and now, of the first ``most`` rows of the probe."""
        ids = self.ids[:most]
        return self.before.of(ids), read(model, self.examples, ids, eos_ids=self.eos_ids)


@dataclass(frozen=True)
class Probes:
    """Everything a controlled run reads.

    Attributes:
        sets: "forget", "learn", "holdout": what is read for the goals.
        watched: "retain" and "general", as far as there is something to watch.
        control: units of the floors, and how many rows.
        seed: of the run.
        eos_ids: tokens that end a generation.
        spoken: is "general" what the model said by itself, for want of a file?
    """

    sets: Mapping[str, ExampleSet]
    watched: Mapping[str, Watched]
    control: Control
    seed: int
    eos_ids: frozenset[int] = frozenset()
    spoken: bool = False

    def ids(self, name: str, turn: int) -> Sequence[str]:
        """Rows of a reading: all, or ``read_rows`` of a large set, others each turn."""
        examples, most = self.sets[name], self.control.read_rows
        if len(examples) <= most:
            return examples.ids
        return shuffled(examples.ids, self.seed, f"{name}/probe", turn)[:most]

    def pairs(self, model: Any, most: Mapping[str, int | None]) -> dict[str, tuple[Reading, Reading]]:
        """Before and now of every watched set, at most so many rows of each."""
        return {name: watched.now(model, most.get(name)) for name, watched in self.watched.items()}

    def floors(self, model: Any, *, whole: bool, steps: int = FULL_ROUND) -> tuple[Used, dict[str, Reading]]:
        """What of the floors is used up.

        Args:
            model: as it is now.
            whole: read all of the probes, not the few of a round.
            steps: that the round took, repairs included.
        """
        rows = rows_of_round(steps)
        few = {} if whole else {"retain": rows, "general": rows // 2}
        pairs = self.pairs(model, few)
        found = used(self.control, pairs.get("retain"), pairs.get("general"))
        return found, {name: now for name, (_, now) in pairs.items()}


def rows_of_round(steps: int) -> int:
    """Retain rows that a round of so many steps reads: all of its few, at least half of them.

    >>> [rows_of_round(steps) for steps in (1, 2, 3, 4)]
    [12, 12, 18, 24]
    """
    return max(ROUND_ROWS // 2, min(ROUND_ROWS, ROUND_ROWS * steps // FULL_ROUND))
