"""The order in which the shuffled examples of a set are gone over: by owner, by how sure the model was, or as they lie.

Source: layer-wise partial machine unlearning packs the rows of owners who may ask to be deleted into batches of their
own, so that few recorded steps meet any one of them; the same group's work on ascent goes over forget rows from low to
high predictive uncertainty.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class Arranged:
    """What the order of a set depends on, beside the shuffle; with neither, on that alone.

    Attributes:
        owner: id -> whose it is: no step mixes two owners. Who has none belongs to the nobody in particular.
        rank: id -> place; lower ones come first, equal ones as they were shuffled.
        by_id: name of a draw that gives every id a place of its own in each cycle, whatever else is in the set: who
            takes a row out leaves the others in their order. It takes the place of the shuffle.
    """

    owner: Mapping[str, str] = field(default_factory=dict)
    rank: Mapping[str, float] = field(default_factory=dict)
    by_id: str = ""

    def order(self, ids: Sequence[str], shuffled: Int64[np.ndarray, "N"], cycle: int = 0) -> Int64[np.ndarray, "N"]:
        """Places in ``ids`` in the order they are drawn in.

        >>> arranged = Arranged(owner={"a": "x", "b": "y", "c": "x"})
        >>> arranged.order("abc", np.array([1, 2, 0])).tolist()
        [1, 2, 0]
        >>> arranged.order("abc", np.array([0, 1, 2])).tolist()
        [0, 2, 1]
        """
        found = shuffled.tolist() if not self.by_id else keyed_order(ids, f"{self.by_id}/{cycle}")
        if self.rank:
            found.sort(key=lambda place: self.rank[ids[place]])
        if self.owner:
            first = {owner: n for n, owner in reversed([*enumerate(self._owner(ids[place]) for place in found)])}
            found.sort(key=lambda place: first[self._owner(ids[place])])
        return np.array(found, dtype=np.int64)

    def together(self, drawn: list[str]) -> list[str]:
        """Of the next ids those that belong to the owner of the first."""
        if not self.owner:
            return drawn
        border = next((n for n, i in enumerate(drawn) if self._owner(i) != self._owner(drawn[0])), len(drawn))
        return drawn[:border]

    def batches(self, ids: Sequence[str], size: int) -> int:
        """Steps of one pass.

        >>> Arranged(owner={"a": "x", "b": "y", "c": "x"}).batches("abc", 8)
        2
        """
        groups = Counter(map(self._owner, ids)) if self.owner else {"": len(ids)}
        return sum(math.ceil(count / size) for count in groups.values())

    def _owner(self, example_id: str) -> str:
        return self.owner.get(example_id, "")


def keyed_order(ids: Sequence[str], name: str) -> list[int]:
    """Places in ``ids``, sorted by a digest of each id: a function of the set of ids, and of a subset the same order.

    >>> ids = ["a", "b", "c", "d"]
    >>> [ids[n] for n in keyed_order(ids, "x")], [["a", "c"][n] for n in keyed_order(["a", "c"], "x")]
    (['b', 'd', 'c', 'a'], ['c', 'a'])
    """
    keys = [hashlib.sha256(f"{name}/{i}".encode("utf-8", "surrogatepass")).digest() for i in ids]
    return sorted(range(len(ids)), key=keys.__getitem__)
