"""The rate of local work where none was given: the usual one, unless the first round shows that it is none.

    at a rate, one round of all clients; the mean of their losses before and after it
    fell by 5 % or more  -> that rate: the round is the first of the federation, and nothing was asked in vain
    rose, or local work led to no numbers any more
                         -> all begins again at a third of the rate
    fell by less         -> all begins again at three times the rate
    after four rates, or back at one of them -> the one after which the loss was least

The losses are of the clients' own rows, which they tell in any case: nothing that is measured is looked at. They are
compared over the clients that answered in both rounds: one that is lost meanwhile says nothing of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from palimpsest.companions.round_record import Replies
from palimpsest.federated.fed_avg import loss_of
from palimpsest.federated.procedure import Procedure

FALLS_BY = 0.05
"""Share of the loss by which the first round must bring it down."""
RATE_FACTOR = 3.0
"""Between one rate and the next."""
MOST_RATES = 4
"""That are tried."""
ROUNDS_LOOKED_AT = 2
"""Whose losses decide."""
_NOBODY: Replies = {}


class TriedRate(NamedTuple):
    """A rate whose first round was looked at.

    Attributes:
        rate: of the local work.
        before: mean loss before the first round, nats.
        after: after it; None = half of the clients found no numbers any more.
    """

    rate: float
    before: float
    after: float | None

    @property
    def fits(self) -> bool:
        """It goes on; also where the losses are not known."""
        return self.after is not None and not self.after > (1 - FALLS_BY) * self.before

    @property
    def rose(self) -> bool:
        """A smaller rate is called for."""
        return self.after is None or self.after > self.before

    @property
    def words(self) -> str:
        """What came of it.

        >>> TriedRate(0.002, 4.0, 3.9).words, TriedRate(0.002, 4.0, 5.0).words
        ('0.002: from 4 to 3.9', '0.002: from 4 to 5')
        """
        if self.after is None:
            return f"{self.rate:g}: to no numbers any more"
        return f"{self.rate:g}: from {self.before:.4g} to {self.after:.4g}"


class RateRefused(Exception):
    """The first round at a rate shows that it is none; the federation begins again at another.

    Attributes:
        tried: what was seen.
    """

    def __init__(self, tried: TriedRate) -> None:
        super().__init__(tried.words)
        self.tried = tried


def rate_after(usual: float, tried: Sequence[TriedRate]) -> tuple[float, bool]:
    """The rate to go on with, and whether it is the one, whatever its first round shows.

    Args:
        usual: where to begin.
        tried: rates that were refused, in order.

    >>> rate_after(0.002, []), rate_after(0.002, [TriedRate(0.002, 4.0, 3.9)])
    ((0.002, False), (0.006, False))
    >>> rate_after(0.002, [TriedRate(0.002, 4.0, 3.9), TriedRate(0.006, 4.0, 9.0)])
    (0.002, True)
    """
    if not tried:
        return usual, False
    last = tried[-1]
    wanted = last.rate / RATE_FACTOR if last.rose else last.rate * RATE_FACTOR
    if len(tried) < MOST_RATES and not any(math.isclose(wanted, one.rate) for one in tried):
        return wanted, False
    return min(tried, key=lambda one: math.inf if one.after is None else one.after).rate, True


def watched(procedure: Procedure, rate: float) -> Procedure:
    """Federated averaging that ends where its first round shows that the rate is none.

    Args:
        procedure: whose clients tell their losses in the first two rounds.
        rate: of its local work.

    Raises:
        RateRefused: when the second round was heard.
    """
    number, told, first = 0, None, _NOBODY
    try:
        while True:
            errand = next(procedure) if told is None else procedure.send(told)
            told = yield errand
            if number == 0:
                first = told
            elif number == 1:
                _look(first, told, rate)
                first = _NOBODY
            number += 1
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _look(first: Replies, second: Replies, rate: float) -> None:
    both = sorted(first.keys() & second.keys())
    if both:
        tried = TriedRate(rate, *(loss_of({name: told[name] for name in both}) for told in (first, second)))
        if not tried.fits:
            raise RateRefused(tried)
