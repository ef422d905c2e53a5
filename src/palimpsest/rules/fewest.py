"""How many of a ranked list go: the fewest at which what is to be forgotten is at its level, within what must stay.

Source: our own; an entry that would break the budget is passed over as by DEPN.

    n* = the smallest n that was found with  reached(n) and u(n) ≤ 1            u: what of the floors is used up

Looked at are 1, 2, 4, ... of the list and all of it, for more may hurt less where few cut a thought in half; then
between the first of them that is there and the one before it, by bisection. Where none is, the longest list within the
budget is sought as if more never hurt less; the entry behind it is passed over, and so on with those behind that. Where
that does not get there either, what was found with the least known is taken. What is taken was itself read; nothing is
read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

MOST_PASSED = 8  # entries at most


class Looked(Protocol):
    """What was read of a model."""

    @property
    def reached(self) -> bool:
        """Is what is to be forgotten at its level?"""

    @property
    def known(self) -> float:
        """How much of it is left."""

    @property
    def used(self) -> float:
        """What is used up of what may be lost of the rest; 1 = all of it."""


_L = TypeVar("_L", bound=Looked)


@dataclass(frozen=True)
class Fewest(Generic[_L]):
    """What was taken of a ranked list.

    Attributes:
        entries: in its order.
        seen: what was read with these gone.
        passed_over: entries that would have hurt too much.
    """

    entries: tuple[int, ...]
    seen: _L
    passed_over: tuple[int, ...] = ()


def fewest_that_reach(look: Callable[[Sequence[int]], _L], order: Sequence[int], nothing: _L) -> Fewest[_L]:
    """The entries that go.

    Args:
        look: entries -> what is read with them gone.
        order: entries by rank.
        nothing: what is read with none gone.

    >>> from types import SimpleNamespace as Read
    >>> def look(gone: Sequence[int]) -> Read:
    ...     return Read(reached=len(gone) >= 4, known=1 / (1 + len(gone)), used=2.0 if 3 in gone else 0.0)
    >>> fewest_that_reach(look, [1, 2, 3, 4, 5, 6], look([])).entries
    (1, 2, 4, 5)
    """
    seen: dict[tuple[int, ...], _L] = {(): nothing}

    def looked(entries: Sequence[int]) -> _L:
        gone = tuple(entries)
        seen[gone] = seen[gone] if gone in seen else look(gone)
        return seen[gone]

    found = _shortest(looked, tuple(order)) or _passing_over(looked, tuple(order), nothing)
    if found.seen.reached:
        return found
    within = (Fewest(entries, read) for entries, read in seen.items() if read.used <= 1)
    best = min(within, key=lambda one: (one.seen.known, len(one.entries)))
    return replace(best, passed_over=tuple(entry for entry in found.passed_over if entry not in best.entries))


def _passing_over(look: Callable[[Sequence[int]], _L], order: Sequence[int], nothing: _L) -> Fewest[_L]:
    """The entries that go where some are passed over."""
    found, rest = Fewest((), nothing), tuple(order)
    while True:
        count, seen = _longest(look, found, rest)
        found = Fewest((*found.entries, *rest[:count]), seen, found.passed_over)
        if seen.reached or count == len(rest) or len(found.passed_over) == MOST_PASSED:
            return found
        found = Fewest(found.entries, seen, (*found.passed_over, rest[count]))
        rest = rest[count + 1 :]


def _shortest(look: Callable[[Sequence[int]], _L], order: Sequence[int]) -> Fewest[_L] | None:
    """The first so many entries, as few as are there within the budget; None where no power of two of them is."""
    low, found = 0, None
    for high in dict.fromkeys((*(2**k for k in range(len(order).bit_length())), len(order))):
        seen = look(order[:high])
        if seen.reached and seen.used <= 1:
            found = Fewest(tuple(order[:high]), seen)
            break
        low = high
    while found is not None and len(found.entries) - low > 1:
        middle = (low + len(found.entries)) // 2
        seen = look(order[:middle])
        if seen.reached and seen.used <= 1:
            found = Fewest(tuple(order[:middle]), seen)
        else:
            low = middle
    return found


def _longest(look: Callable[[Sequence[int]], _L], found: Fewest[_L], rest: Sequence[int]) -> tuple[int, _L]:
    """How many more go, and what was read with them."""
    seen = {0: found.seen}

    def goes_on(count: int) -> bool:
        """Neither there yet, nor too far."""
        seen[count] = seen[count] if count in seen else look((*found.entries, *rest[:count]))
        return seen[count].used <= 1 and not seen[count].reached

    low, high = 0, min(1, len(rest))
    while high > low and goes_on(high):
        low, high = high, min(len(rest), 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if goes_on(middle) else (low, middle)
    taken = high if seen[high].used <= 1 else low
    return taken, seen[taken]
