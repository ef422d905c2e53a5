"""Which examples a step sees: a function of seed, set name and position, so that a resume needs three numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from palimpsest.data.draws import places
from palimpsest.loop.arranged import Arranged


@dataclass(frozen=True)
class IdStream:
    """An endless stream of ids, shuffled anew in each cycle; frozen: drawing gives the next stream.

    Attributes:
        name: of the set.
        ids: the examples in play.
        seed: of the run.
        cycle: number of the current cycle.
        cursor: examples of this cycle already drawn.
        order: places in ``ids`` in the order of the current cycle; made by its first draw and handed on, so that a draw
            costs its own examples only.
        arranged: what the order depends on beside the shuffle; None = nothing.
    """

    name: str
    ids: tuple[str, ...]
    seed: int
    cycle: int = 0
    cursor: int = 0
    order: Int64[np.ndarray, "N"] | None = field(default=None, compare=False, repr=False)
    arranged: Arranged | None = field(default=None, compare=False, repr=False)

    @property
    def exhausted(self) -> bool:
        """Is the current cycle used up?"""
        return self.cursor >= len(self.ids)

    def restart(self, ids: Sequence[str]) -> IdStream:
        """The next cycle, over these ids."""
        return replace(self, ids=tuple(ids), cycle=self.cycle + 1, cursor=0, order=None)

    def draw(self, count: int) -> tuple[list[str], IdStream]:
        """At most ``count`` ids of the current cycle; fewer at its end, and where another owner's begin."""
        order = self._new_order() if self.order is None else self.order
        drawn = [self.ids[place] for place in order[self.cursor : self.cursor + count].tolist()]
        drawn = drawn if self.arranged is None else self.arranged.together(drawn)
        return drawn, replace(self, cursor=self.cursor + len(drawn), order=order)

    def _new_order(self) -> Int64[np.ndarray, "N"]:
        shuffled = places(len(self.ids), self.seed, self.name, self.cycle)
        return shuffled if self.arranged is None else self.arranged.order(self.ids, shuffled, self.cycle)

    def draw_around(self, count: int) -> tuple[list[str], IdStream]:
        """Exactly ``count`` ids, going on with the next cycle where one ends."""
        drawn: list[str] = []
        stream = self
        while len(drawn) < count:
            if stream.exhausted:
                stream = stream.restart(stream.ids)
            more, stream = stream.draw(count - len(drawn))
            drawn += more
        return drawn, stream

    def to_json(self, beginning: IdStream) -> dict[str, Any]:
        """JSON values: where it stands, and the ids only where they are others than at the beginning of the run."""
        place = {"cycle": self.cycle, "cursor": self.cursor}
        same = self.ids is beginning.ids or self.ids == beginning.ids
        return place if same else {**place, "ids": list(self.ids)}

    def at(self, place: Mapping[str, Any]) -> IdStream:
        """This stream, which stands at the beginning of the run, where ``to_json`` said."""
        return replace(self, **{**place, "ids": tuple(place.get("ids", self.ids)), "order": None})
