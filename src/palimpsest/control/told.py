"""Which rows are right by what stays, and whether the forget set has more of the others than chance explains.

Of n rows to forget, k are of another class than what stays says; by the holdout, class by class, it would be

    e = Σ_i p_i,    p_i = (m_c + p) / (M_c + 1),    p = (m + 1) / (M + 2)

M, m: rows of the holdout, and those that are of another class than what stays says; M_c, m_c: the same of the class of
row i. Where P(X ≥ k) < ``CHANCE`` for a sum X of draws with these p_i, the forget set is **unlike** the holdout: it has
wrong labels, or other rows of which only those who saw them know the class. Then e / k of the k rows are as such rows
of the holdout, and the others are taken for rows that no model gets right which never saw them.

Source: our own. A holdout of right labels says of wrong ones that 0.96 would be right unseen; 0.05 are (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

CHANCE = 0.001  # so seldom that an ordinary request never meets it


@dataclass(frozen=True)
class ToldClasses:
    """Whether what stays tells the class of a row, by id; rows of a class that does not stay are in neither.

    Attributes:
        forget: of the rows to forget.
        unseen: of the holdout.
        class_of: id -> class, of both.
        by: what tells it, in words.
    """

    forget: Mapping[str, bool]
    unseen: Mapping[str, bool]
    class_of: Mapping[str, int]
    by: str

    @cached_property
    def expected(self) -> tuple[float, ...]:
        """p_i of each row to forget."""
        of_class: dict[int, list[bool]] = {}
        for example_id, told in self.unseen.items():
            of_class.setdefault(self.class_of[example_id], []).append(not told)
        share = (sum(not told for told in self.unseen.values()) + 1) / (len(self.unseen) + 2)
        alike = (of_class.get(self.class_of[i], []) for i in self.forget)
        return tuple((sum(others) + share) / (len(others) + 1) for others in alike)

    @property
    def strange(self) -> int:
        """k: rows to forget that are of another class than what stays says."""
        return sum(not told for told in self.forget.values())

    @cached_property
    def is_unlike(self) -> bool:
        """Has the forget set more such rows than chance explains?

        >>> others = {f"u{i}": True for i in range(98)}
        >>> ToldClasses({"a": False}, others, dict.fromkeys([*others, "a"], 0), "its words").is_unlike
        False
        >>> six = {f"f{i}": False for i in range(6)}
        >>> ToldClasses(six, others, dict.fromkeys([*others, *six], 0), "its words").is_unlike
        True
        """
        return bool(self.unseen) and at_least(self.strange, self.expected) < CHANCE

    @property
    def ordinary(self) -> float:
        """Share of the rows that what stays does not tell which are as such rows of the holdout: e / k, or 1."""
        return sum(self.expected) / self.strange if self.is_unlike else 1.0


def at_least(count: int, chances: tuple[float, ...]) -> float:
    """P(X ≥ count) for a sum X of draws that are 1 with these chances.

    >>> at_least(1, (0.5, 0.5)), at_least(2, (0.5, 0.2)), at_least(0, ())
    (0.75, 0.1, 1.0)
    """
    mass = np.zeros(len(chances) + 1)
    mass[0] = 1.0
    for p in chances:
        mass[1:] = mass[1:] * (1 - p) + mass[:-1] * p
        mass[0] *= 1 - p
    return float(mass[count:].sum())
