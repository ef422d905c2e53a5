"""From a run to its figures: which bars and which curves."""

from __future__ import annotations

import math
from typing import NamedTuple

from markupsafe import Markup

from palimpsest.report.figures import Bar, Group, Line, bars, curve
from palimpsest.report.glossary import full_name
from palimpsest.report.schema import RunResult
from palimpsest.report.view import any_score, row_keys

NATS = "nats per scored position"
LEVELS = {"oracle": "oracle", "level": "never seen"}


class Panel(NamedTuple):
    """A figure with its caption."""

    title: str
    words: str
    svg: Markup


def bar_panels(result: RunResult) -> tuple[Panel, ...]:
    """One panel per metric, in it one group of bars per set."""
    keys = row_keys(result)
    return tuple(_bar_panel(result, metric) for metric in dict.fromkeys(metric for _, metric in keys))


def _bar_panel(result: RunResult, metric: str) -> Panel:
    names = [name for name, owner in row_keys(result) if owner == metric]
    groups = [Group(name, _bars(result, name, metric)) for name in names]
    score = any_score(result, names[0], metric)
    words = f"{score.unit}; {score.direction}" if score else ""
    title = metric if full_name(metric) == metric else f"{full_name(metric)} ({metric})"
    return Panel(title, words, bars(f"{title} by set and column, with intervals", groups))


def _bars(result: RunResult, name: str, metric: str) -> tuple[Bar, ...]:
    found = [(column, sets.get(name, {}).get(metric)) for column, sets in result.scores.items()]
    return tuple(Bar(column, s.value, s.low, s.high) for column, s in found if s is not None)


def curve_panels(result: RunResult) -> tuple[Markup, ...]:
    """One panel per quantity of the curve, then the number of active examples."""
    quantities = dict.fromkeys(key for point in result.curve for key in point.values)
    lines = [_line(result, quantity) for quantity in quantities]
    active = tuple((float(p.step), float(p.active)) for p in result.curve if p.active is not None)
    if active:
        lines.append(Line("rows above their level", "each against its own", active, decimals=0))
    return tuple(curve(line) for line in lines if any(math.isfinite(value) for _, value in line.points))


def _line(result: RunResult, quantity: str) -> Line:
    points = tuple((float(p.step), p.values[quantity]) for p in result.curve if quantity in p.values)
    name, _, metric = quantity.partition(".")
    score = any_score(result, name, metric)
    level, level_name = _level(result, name, metric)
    unit = score.unit if score else NATS if metric == "nats" else ""
    return Line(f"{name} {metric}".strip(), unit, points, level, level_name)


def _level(result: RunResult, name: str, metric: str) -> tuple[float | None, str]:
    """What the oracle scores, else what a model should score that never saw the set."""
    for column, words in LEVELS.items():
        score = result.scores.get(column, {}).get(name, {}).get(metric)  # type: ignore[call-overload]
        if score is not None and score.value is not None:
            return score.value, words
    return None, ""
