"""How far a forget set is from its level, which rows still need work, and what the floors have left.

Pure functions of readings; the source of all of them is our own design, tried before it was built (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from palimpsest.control.level import LEAST_ES, Level
from palimpsest.control.readings import Reading
from palimpsest.control.settings import Control

LEAST_WAY = 0.05  # a set that was this near its level has no way to measure by
ROW_SLACK = 0.02  # ES of a row above its level that still rests
TOO_FAR = 0.07  # mean MA below the level that is over-forgetting
KNOWN_ES = 0.05  # below it the ES of a retain set is noise, and no ratio is taken of it


@dataclass(frozen=True)
class Goal:
    """The forget set's way to its level.

    Attributes:
        level: where to.
        before: reading at the start, of all rows.
        tolerance: mean MA and ES above the level that count as there.
    """

    level: Level
    before: Reading
    tolerance: float

    def mean_of(self, now: Reading) -> tuple[float, float]:
        """Level of mean MA and of mean ES for the rows of a reading."""
        there = self.level.reading.of(now.rows)
        return there.ma, max(LEAST_ES, there.es)

    def way(self, now: Reading) -> float:
        """w: share of the way that is left, the larger of MA's and ES's; 0 = there."""
        ma, es = self.mean_of(now)
        start = self.before.of(now.rows)
        of_ma = (now.ma - ma) / max(LEAST_WAY, start.ma - ma)
        of_es = (now.es - es) / max(LEAST_WAY, start.es - es)
        return max(0.0, of_ma, of_es)

    def slack(self, now: Reading) -> float:
        """Tolerance of mean MA: half a token, or of classes half a row, where they are so few that it is more."""
        return max(self.tolerance, 0.5 / now.positions)

    def reached(self, now: Reading, *, below: float = 0.0) -> bool:
        """Is a reading at its level, or this far below in MA?"""
        ma, es = self.mean_of(now)
        of_es = self.slack(now) if self.level.of_classes else self.tolerance
        return now.ma <= max(0.0, ma - below) + self.slack(now) and now.es <= es + of_es

    def overshot(self, now: Reading, *, below: float = 0.0) -> bool:
        """Is its mean MA further below the level than unseen text is?"""
        ma, _ = self.mean_of(now)
        return now.ma < ma - below - max(TOO_FAR, 1.0 / now.positions)

    def active(self, now: Reading, *, below: float = 0.0) -> list[str]:
        """Rows of a reading that still need work; at least one: the one furthest above its level."""
        there = self.level.reading.rows
        if self.level.by_words:
            return self._least_expected(now)
        found = [
            i
            for i, row in now.rows.items()
            if row.ma > max(0.0, there[i].ma - below) + 1e-9 or row.es > max(self.level.es, there[i].es) + ROW_SLACK
        ]
        return found or [max(now.rows, key=lambda i: now.rows[i].ma - there[i].ma)]

    def _least_expected(self, now: Reading) -> list[str]:
        """As many rows as are right beyond the sum of their levels: the lowest level first, of equals the least sure.

        More of them are right by what stays, as far as the level sees; to make those wrong would take that along.
        """
        there = self.level.reading.of(now.rows)
        too_many = math.ceil(sum(row.ma for row in now.rows.values()) - sum(r.ma for r in there.rows.values()) - 1e-9)
        order = sorted(now.rows, key=lambda i: (there.rows[i].ma - now.rows[i].ma, -now.rows[i].nats))
        return order[: max(1, too_many)]


@dataclass(frozen=True)
class Lesson:
    """The learn set of an update, on its way to what the model knows of the retain set.

    Attributes:
        before: nats per scored position before the run.
        target: nats at which it is learned.
    """

    before: float
    target: float

    def way(self, now: Reading) -> float:
        """Share of the way that is left; 0 = learned."""
        return max(0.0, (now.nats - self.target) / max(LEAST_WAY, self.before - self.target))


@dataclass(frozen=True)
class Standing:
    """What was read after a round.

    Attributes:
        forget: rows of the forget set.
        learn: rows of the learn set of an update; None where nothing is learned.
    """

    forget: Reading
    learn: Reading | None = None

    @property
    def is_finite(self) -> bool:
        """Are all of its nats numbers?"""
        return math.isfinite(self.forget.nats) and (self.learn is None or math.isfinite(self.learn.nats))


@dataclass(frozen=True)
class Aims:
    """Where a run should end: the forget set at its level, and the learn set of an update learned.

    Attributes:
        goal: of the forget set.
        lesson: of the learn set; None where nothing is learned.
    """

    goal: Goal
    lesson: Lesson | None = None

    def way(self, now: Standing) -> float:
        """w: share of the way that is left, the larger of the two; 0 = there."""
        learn = 0.0 if self.lesson is None or now.learn is None else self.lesson.way(now.learn)
        return max(self.goal.way(now.forget), learn)

    def reached(self, now: Standing, *, below: float = 0.0) -> bool:
        """Is the forget set at its level, or this far below in MA, and the learn set learned?"""
        learned = self.lesson is None or now.learn is None or self.lesson.way(now.learn) == 0
        return learned and self.goal.reached(now.forget, below=below)


@dataclass(frozen=True)
class Used:
    """What of the floors is used up, in units; 1 is the aim, ``final`` the bound.

    Attributes:
        retain: u_r; None without a retain set.
        general: u_g; None without general text, replay or own words.
    """

    retain: float | None
    general: float | None

    @property
    def most(self) -> float:
        """max(u); 0 when nothing is watched."""
        return max(self.retain or 0.0, self.general or 0.0, 0.0)

    @property
    def replay_share(self) -> float:
        """Share of a repair step that goes to replay: more where general text suffers more."""
        kept, general = max(self.retain or 0.0, 0.05), max(self.general or 0.0, 0.05)
        return 0.25 + 0.5 * general / (kept + general)


def used(
    control: Control,
    retain: tuple[Reading, Reading] | None,
    general: tuple[Reading, Reading] | None,
) -> Used:
    """Units of the floors that a model has used up.

        u_r = max( (1 − ES / ES before) / retain_loss, (nats − nats before) / retain_nats )
        u_g = (nats − nats before) / ln(general_ratio)

    Args:
        control: the units.
        retain: retain rows before the run and now.
        general: general rows before the run and now.
    """
    return Used(_of_retain(control, *retain) if retain else None, _of_general(control, *general) if general else None)


def _of_retain(control: Control, before: Reading, now: Reading) -> float:
    by_nats = (now.nats - before.nats) / control.retain_nats
    by_es = (1 - now.es / before.es) / control.retain_loss if before.es > KNOWN_ES else 0.0
    return max(_finite(by_es), _finite(by_nats))


def _of_general(control: Control, before: Reading, now: Reading) -> float:
    return _finite((now.nats - before.nats) / math.log(control.general_ratio))


def _finite(units: float) -> float:
    """Nothing that is not a number passes a floor."""
    return units if math.isfinite(units) else math.inf


def stalls(
    ways: Sequence[float], nats: Sequence[float], *, rounds: int = 3, gain: float = 0.06, rise: float = 1.15
) -> bool:
    """Have the last rounds brought the forget set no nearer, and its nats no higher?

    Args:
        ways: w after each accepted round since the method started.
        nats: nats per position after each.
        rounds: how many are the last.
        gain: of w that is progress.
        rise: of nats that is progress, though no arg-max flipped yet.
    """
    if len(ways) <= rounds:
        return False
    nearer = min(ways[-rounds:]) <= min(ways[:-rounds]) - gain
    higher = max(nats[-rounds:]) >= rise * max(nats[:-rounds])
    return not (nearer or higher)
