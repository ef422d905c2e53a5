"""The first rate: how large a step may be before it breaks something.

From one snapshot, one iteration (of a method with a cycle: one cycle) at each of ever larger rates, on the same forget
batch, without repair. The sweep ends at the *crossing*, the first rate that halves the ES of retain, adds 0.3 nats to
general text, brings the forget set to its level or is not finite. The first rate is the largest within the floors, and
at most half the crossing.

Source: the learning-rate range test of Smith 2015, arXiv:1506.01186, with floors in the place of a loss curve; damage
as the yardstick of a step as in RepSelect, arXiv:2606.17168.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from palimpsest.control.goal import used
from palimpsest.control.hands import Hands
from palimpsest.control.readings import Reading
from palimpsest.errors import DivergedError

HIGHEST = 10.0
UNMOVED = 1e-3  # nats: below it a step moved nothing, and the next rate is four times as high
HALVED = 0.5  # of the ES of retain
BROKEN = 0.3  # nats of general text
OF_SMALLEST = 0.25
WARMING = 2  # iterations at rate 0 before it, for the optimizer's moments
ROWS = {"forget": 16, "learn": 16, "retain": 16, "general": 8}  # that are read after each trial


class Trial(NamedTuple):
    """One rate.

    Attributes:
        rate: tried.
        used: units of the floors after it; infinite where the iteration diverged.
        crossed: is it the crossing?
        moved: the largest change in nats of forget or retain.
    """

    rate: float
    used: float
    crossed: bool
    moved: float


def next_rate(trial: Trial) -> float:
    """The rate to try after this one.

    >>> next_rate(Trial(1e-6, 0.0, False, 0.0)), next_rate(Trial(1e-3, 0.2, False, 0.5))
    (4e-06, 0.002)
    """
    return trial.rate * (4 if trial.moved < UNMOVED else 2)


def first_rate(trials: Sequence[Trial], ceiling: float) -> tuple[float, float]:
    """The first rate and the highest allowed, from the trials of a sweep.

    Args:
        trials: in the order of rates, at least one.
        ceiling: times the first rate.

    >>> first_rate([Trial(1e-4, 0.1, False, 0.1), Trial(2e-4, 0.4, False, 0.3), Trial(4e-4, 3.0, True, 1.0)], 4.0)
    (0.0002, 0.0004)
    """
    crossing = next((t.rate for t in trials if t.crossed), HIGHEST)
    within = [t.rate for t in trials if t.used <= 1 and not t.crossed]
    moved = [t.rate for t in trials if t.moved >= UNMOVED]
    rate = min(within[-1], crossing / 2) if within else OF_SMALLEST * (moved[0] if moved else crossing)
    return rate, min(crossing, ceiling * rate)


def sweep(
    hands: Hands, name: str, before: Reading, *, crosses: Callable[[Reading], bool], furthest: float = math.inf
) -> None:
    """Find first rate and ceiling of a run; weights, optimizers and streams are as before afterwards.

    Args:
        hands: at the snapshot ``state.start``.
        name: the set whose rows say that something moved: "forget" or "learn".
        before: reading of its rows before the run.
        crosses: is a reading of them a reason to go no higher?
        furthest: share of their size that matrices may move by in one trial; beyond it is the crossing.
    """
    state, loop = hands.state, hands.machine.state
    streams, tokens = (loop.anchor, dict(loop.sides)), loop.tokens

    def rewound() -> None:
        hands.machine.state.anchor, hands.machine.state.sides = streams[0], dict(streams[1])

    if hands.cycle == hands.turns:
        for _ in range(WARMING * hands.turns):
            hands.iterate(0.0, trial=True)
    warm = hands.snap()
    few = before.of(list(before.rows)[: ROWS[name]])
    trials: list[Trial] = []
    rate = hands.job.method.lowest_rate
    while rate <= HIGHEST and not (trials and trials[-1].crossed):
        hands.back(warm)
        rewound()
        trial = _trial(hands, rate, name, few, crosses)
        leaps = math.isfinite(furthest) and hands.moved_since(warm) > furthest
        trials.append(trial._replace(crossed=trial.crossed or leaps))
        rate = next_rate(trials[-1])
    state.first_rate, state.ceiling = first_rate(trials, hands.tools.control.ceiling)
    state.rate = state.first_rate
    state.sweep_tokens = hands.machine.state.tokens - tokens
    hands.back(state.start)
    rewound()
    hands.note("sweep", f"first rate {state.first_rate:.1e} after {len(trials)} trials")


def _trial(hands: Hands, rate: float, name: str, before: Reading, crosses: Callable[[Reading], bool]) -> Trial:
    try:
        for _ in range(hands.cycle):
            hands.iterate(rate, trial=True)
    except DivergedError:
        return Trial(rate, math.inf, crossed=True, moved=math.inf)
    hands.settle()
    now = hands.read(name, list(before.rows))
    if abs(now.nats - before.nats) < UNMOVED:  # what the step was taken on is as it was: so is the rest, unread
        return Trial(rate, 0.0, crossed=False, moved=abs(now.nats - before.nats))
    with hands.timed("reading_seconds"):
        pairs = hands.probes.pairs(hands.job.model, ROWS)
    spent = used(hands.tools.control, pairs.get("retain"), pairs.get("general")).most
    changes = [abs(after.nats - earlier.nats) for earlier, after in (*pairs.values(), (before, now))]
    if not all(math.isfinite(change) for change in changes):
        return Trial(rate, math.inf, crossed=True, moved=math.inf)
    return Trial(rate, spent, crossed=_breaks(pairs) or crosses(now), moved=max(changes))


def _breaks(pairs: Mapping[str, tuple[Reading, Reading]]) -> bool:
    """Is retain half forgotten, or general text no longer what it was?"""
    halved = "retain" in pairs and pairs["retain"][1].es < HALVED * pairs["retain"][0].es
    return halved or ("general" in pairs and pairs["general"][1].nats > pairs["general"][0].nats + BROKEN)
