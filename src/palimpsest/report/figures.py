"""Inline SVG figures, as pure functions of numbers. Colours are classes of the page's style sheet.

Lengths are SVG units (pixels at natural size), y grows downwards. Columns differ in lightness and outline, not only
in hue, so that the figures read in black and white.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from palimpsest.printed import fitted
from palimpsest.report.nouns import column_name
from palimpsest.report.numbers import nice_ceiling, show_or_dash
from palimpsest.report.svg import number, picture, segment, text


class Scale(NamedTuple):
    """A linear map of values onto a line.

    >>> Scale(0.0, 2.0, 100.0, 300.0).at(0.5)
    150.0
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Place of a value; values outside are put at the nearer end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


class Bar(NamedTuple):
    """One bar.

    Attributes:
        column: "before", "after", "oracle" or "level"; also its class.
        value: its length, or None for an empty line.
        low: lower end of the whisker, or None for none.
        high: upper end of it.
    """

    column: str
    value: float | None
    low: float | None = None
    high: float | None = None


class Group(NamedTuple):
    """The bars of one set."""

    name: str
    bars: tuple[Bar, ...]


class Line(NamedTuple):
    """One curve panel.

    Attributes:
        title: the quantity.
        unit: of the quantity.
        points: (step, value), steps ascending.
        level: a reference level drawn dashed, or None.
        level_name: what the level is.
        decimals: of the values written out; 0 for counts.
        along: what the points go along.
    """

    title: str
    unit: str
    points: tuple[tuple[float, float], ...]
    level: float | None = None
    level_name: str = ""
    decimals: int = 2
    along: str = "optimizer steps"


BAR_WIDTH, BAR_LEFT, BAR_RIGHT = 400.0, 76.0, 344.0
BAR_STEP, BAR_HEIGHT, GROUP_HEAD, GROUP_GAP, AXIS_ROOM = 18.0, 12.0, 20.0, 10.0, 26.0


def domain_top(values: Sequence[float | None]) -> float:
    """Right end of a scale that starts at 0: 1 when all values are shares, else a round number above them.

    >>> domain_top([0.2, None, 0.9]), domain_top([0.2, 5.2])
    (1.0, 6.0)
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
    top = max(finite, default=1.0)
    return 1.0 if top <= 1 else nice_ceiling(top)


def bars(title: str, groups: Sequence[Group]) -> Markup:
    """Horizontal bars with interval whiskers, one group per set.

    Args:
        title: what a screen reader says.
        groups: at least one.

    Returns:
        An <svg> element; every bar carries its column's name at the left and its value at the right.
    """
    top = domain_top([v for g in groups for b in g.bars for v in (b.value, b.high)])
    scale = Scale(0.0, top, BAR_LEFT, BAR_RIGHT)
    parts, y = [], 0.0
    for group in groups:
        parts.append(text(0, y + 13, group.name, "group"))
        y += GROUP_HEAD
        for bar in group.bars:
            parts.append(_bar(bar, scale, y))
            y += BAR_STEP
        y += GROUP_GAP
    axis = _bar_axis(scale, y)
    return picture(title, BAR_WIDTH, y + AXIS_ROOM, Markup("").join([axis, *parts]))


def _bar(bar: Bar, scale: Scale, y: float) -> Markup:
    middle = y + BAR_HEIGHT / 2
    parts = [text(BAR_LEFT - 8, y + 10, column_name(bar.column), "label end")]
    if bar.value is not None and not math.isnan(bar.value):
        width = scale.at(bar.value) - scale.start
        parts.append(
            Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}"/>').format(
                bar.column, number(scale.start), number(y), number(width), number(BAR_HEIGHT)
            )
        )
        if bar.low is not None and bar.high is not None:
            parts.append(_whisker(scale.at(bar.low), scale.at(bar.high), middle))
    parts.append(text(BAR_WIDTH - 2, y + 10, show_or_dash(bar.value), "value end"))
    return Markup("").join(parts)


def _whisker(left: float, right: float, y: float) -> Markup:
    x1, x2, top, middle = map(number, (left, right, y - 4, y))
    return Markup('<path class="whisker" d="M{} {}v8M{} {}H{}M{} {}v8"/>').format(x1, top, x1, middle, x2, x2, top)


def _bar_axis(scale: Scale, bottom: float) -> Markup:
    parts = []
    for share in (0.0, 0.5, 1.0):
        value = scale.low + share * (scale.high - scale.low)
        x = scale.at(value)
        parts.append(segment("grid", x, GROUP_HEAD - 4, x, bottom - 4))
        parts.append(text(x, bottom + 12, _tick(value), "tick middle"))
    return Markup("").join(parts)


LINE_WIDTH, LINE_HEIGHT = 300.0, 194.0
PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_BOTTOM = 44.0, 284.0, 44.0, 156.0


def curve(line: Line) -> Markup:
    """One quantity over the optimizer steps, with axes and units.

    Args:
        line: at least one point; points that are not finite interrupt the curve.

    Returns:
        An <svg> element.
    """
    x = Scale(*_span([step for step, _ in line.points]), PLOT_LEFT, PLOT_RIGHT)
    y = Scale(0.0, domain_top([v for _, v in line.points] + [line.level]), PLOT_BOTTOM, PLOT_TOP)
    parts = [
        text(0, 11, fitted(line.title, 22), "group"),
        text(PLOT_RIGHT, 11, _change(line), "value end"),
        text(0, 26, fitted(line.unit, 48), "tick"),
        *_curve_axes(x, y, line.along),
        _level(line, y),
        *_strokes(line.points, x, y),
    ]
    return picture(f"{line.title} over the steps", LINE_WIDTH, LINE_HEIGHT, Markup("").join(parts))


def _strokes(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> list[Markup]:
    runs: list[list[str]] = [[]]
    dots = []
    for step, value in points:
        if not math.isfinite(value):
            runs.append([])
            continue
        at = (number(x.at(step)), number(y.at(value)))
        runs[-1].append(",".join(at))
        dots.append(Markup('<circle class="dot" cx="{}" cy="{}" r="2.5"/>').format(*at))
    lines = [Markup('<polyline class="curve" points="{}"/>').format(" ".join(run)) for run in runs if len(run) > 1]
    # Beyond some thirty points the dots would hide the line.
    return lines + (dots if len(dots) <= 30 else dots[-1:])


def _level(line: Line, y: Scale) -> Markup:
    if line.level is None or not math.isfinite(line.level):
        return Markup("")
    at = y.at(line.level)
    # The name goes above the dashed line unless that would leave the plot, at the end where the curve is farther off.
    label = at - 4 if at > PLOT_TOP + 14 else at + 13
    at_left = abs(line.points[0][1] - line.level) >= abs(line.points[-1][1] - line.level)
    x, anchor = (PLOT_LEFT + 4, "tick") if at_left else (PLOT_RIGHT, "tick end")
    name = f"{line.level_name} {show_or_dash(line.level, line.decimals)}"
    return segment("level", PLOT_LEFT, at, PLOT_RIGHT, at) + text(x, label, name, anchor)


def _change(line: Line) -> str:
    """First and last value."""
    first, last = (show_or_dash(line.points[i][1], line.decimals) for i in (0, -1))
    return f"{first} → {last}"


def _curve_axes(x: Scale, y: Scale, along: str) -> list[Markup]:
    parts = []
    for share in (0.0, 0.5, 1.0):
        value = y.low + share * (y.high - y.low)
        parts.append(segment("grid", PLOT_LEFT, y.at(value), PLOT_RIGHT, y.at(value)))
        parts.append(text(PLOT_LEFT - 6, y.at(value) + 4, _tick(value), "tick end"))
    for value in (x.low, x.high):
        parts.append(text(x.at(value), PLOT_BOTTOM + 15, _tick(value), "tick middle"))
    parts.append(text((PLOT_LEFT + PLOT_RIGHT) / 2, PLOT_BOTTOM + 32, along, "tick middle"))
    return parts


def _span(steps: Sequence[float]) -> tuple[float, float]:
    low, high = min(steps), max(steps)
    return (low, high) if high > low else (low, low + 1)


def _tick(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e6 else show_or_dash(value)
