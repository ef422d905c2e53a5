"""Pictures of a bench as inline SVG: the stream, the gaps, and what every row knows of every task and forget set.

Colours are classes of the page's style sheet; columns and lines differ in form too, so that they read without colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from palimpsest.bench.results import StreamRequestInfo
from palimpsest.bench.scores import Spread
from palimpsest.printed import fitted
from palimpsest.report.figures import Scale, domain_top
from palimpsest.report.numbers import show_or_dash
from palimpsest.report.svg import number, picture, segment, text

Points = Sequence[Spread | None]

CELL_WIDTH, CELL_HEIGHT, CELL_GAP, NAME_WIDTH, HEAD = 46.0, 26.0, 5.0, 150.0, 40.0


def stream_picture(requests: Sequence[StreamRequestInfo]) -> Markup:
    """Requests from left to right, tasks from top to bottom: how much of each task is known after each request.

    Args:
        requests: of one seed, at least one.
    """
    tasks = list(dict.fromkeys(name for request in requests for name in request.tasks))
    most = {name: max(request.tasks.get(name, 0) for request in requests) for name in tasks}
    parts = [_lost_pattern()]
    for column, request in enumerate(requests):
        x = NAME_WIDTH + column * (CELL_WIDTH + CELL_GAP)
        letters = "L" * (request.learn > 0) + "U" * (request.forget > 0)
        parts += [text(x + CELL_WIDTH / 2, 14, str(column), "value middle")]
        parts += [text(x + CELL_WIDTH / 2, 30, letters, "tick middle")]
        before = requests[column - 1].tasks if column else {}
        for row, name in enumerate(tasks):
            counts = (before.get(name, 0), request.tasks.get(name, 0), most[name])
            parts.append(_cell(x, HEAD + row * (CELL_HEIGHT + CELL_GAP), *counts))
        y = HEAD + len(tasks) * (CELL_HEIGHT + CELL_GAP) + 16
        parts.append(text(x + CELL_WIDTH / 2, y, str(request.memory), "tick middle"))
    for row, name in enumerate([*tasks, "in the memory"]):
        y = HEAD + row * (CELL_HEIGHT + CELL_GAP) + (17 if row < len(tasks) else 16)
        parts.append(text(0, y, fitted(name, 22), "label"))
    width = NAME_WIDTH + len(requests) * (CELL_WIDTH + CELL_GAP)
    height = HEAD + len(tasks) * (CELL_HEIGHT + CELL_GAP) + 24
    return picture("Tasks known after each request", width, height, Markup("").join(parts))


def _cell(x: float, y: float, before: int, now: int, most: int) -> Markup:
    """One task after one request: filled from below as far as it is known, hatched where the request took it."""
    parts = [_box("empty", x, y, 1.0, 0.0)]
    if now:
        parts.append(_box("taught" if before == 0 else "known", x, y, now / most, 0.0))
    if before > now:
        parts.append(_box("lost", x, y, before / most, now / most))
        parts.append(text(x + CELL_WIDTH / 2, y + 17, f"−{before - now}", "lost-count middle"))
    return Markup("").join(parts)


def _box(kind: str, x: float, y: float, top: float, bottom: float) -> Markup:
    numbers = (x, y + (1 - top) * CELL_HEIGHT, CELL_WIDTH, (top - bottom) * CELL_HEIGHT)
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(kind, *map(number, numbers))


def _lost_pattern() -> Markup:
    return Markup(
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="paper" width="6" height="6"/><line class="hatch" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>'
    )


BAR_WIDTH, BAR_LEFT, BAR_RIGHT, BAR_STEP = 420.0, 1.0, 320.0, 42.0


def gap_bars(rows: Mapping[str, tuple[Spread | None, Spread | None]]) -> Markup:
    """Mean gap of each row as a bar, its range over the seeds as a whisker, the worst request as a stroke.

    Args:
        rows: label -> (mean gap, worst gap), points.
    """
    highest = [value.high for pair in rows.values() for value in pair if value is not None]
    scale = Scale(0.0, domain_top(highest), BAR_LEFT, BAR_RIGHT)
    bottom = len(rows) * BAR_STEP
    parts = []
    for share in (0.0, 0.5, 1.0):
        value = share * scale.high
        parts += [segment("grid", scale.at(value), 16, scale.at(value), bottom)]
        parts += [text(scale.at(value), bottom + 15, f"{value:g}", "tick middle" if share else "tick")]
    for row, (label, (mean, worst)) in enumerate(rows.items()):
        y = row * BAR_STEP
        parts.append(text(0, y + 12, fitted(label, 48), "group"))
        parts += [] if mean is None else _gap_bar(scale, y, mean, worst)
    title = "Gap to the oracle, mean and worst over the requests, points"
    return picture(title, BAR_WIDTH, bottom + 24, Markup("").join(parts))


def _gap_bar(scale: Scale, y: float, mean: Spread, worst: Spread | None) -> list[Markup]:
    numbers = (scale.start, y + 20, scale.at(mean.mean) - scale.start, 13.0)
    bar = Markup('<rect class="bar after" x="{}" y="{}" width="{}" height="{}"/>').format(*map(number, numbers))
    parts = [bar]
    if mean.n > 1:
        parts.append(segment("whisker", scale.at(mean.low), y + 26.5, scale.at(mean.high), y + 26.5))
    if worst is not None:
        parts.append(segment("worst", scale.at(worst.mean), y + 17, scale.at(worst.mean), y + 36))
    words = show_or_dash(mean.mean) + ("" if worst is None else f" ({show_or_dash(worst.mean)})")
    return [*parts, text(BAR_WIDTH, y + 31, words, "value end")]


MINI_WIDTH, MINI_HEIGHT, MINI_LEFT, MINI_RIGHT, MINI_TOP, MINI_BOTTOM = 176.0, 104.0, 30.0, 170.0, 24.0, 84.0


def mini(title: str, row: Points, oracle: Points) -> Markup:
    """What one row and the oracles say of one set over the requests, 0 to 100 points.

    Args:
        title: of the set.
        row: per request, mean and range over the seeds; None where the set is not there.
        oracle: likewise.
    """
    x = Scale(0.0, max(1.0, len(row) - 1.0), MINI_LEFT, MINI_RIGHT)
    y = Scale(0.0, 100.0, MINI_BOTTOM, MINI_TOP)
    parts = [text(0, 12, fitted(title, 27), "mini")]
    for value in (0.0, 50.0, 100.0):
        parts.append(segment("grid", MINI_LEFT, y.at(value), MINI_RIGHT, y.at(value)))
    parts += [text(MINI_LEFT - 5, y.at(v) + 4, f"{v:g}", "tick end") for v in (0.0, 100.0)]
    parts += [text(x.at(v), MINI_BOTTOM + 14, f"{v:g}", "tick middle") for v in (0.0, float(len(row) - 1))]
    parts += [_band(row, x, y), _stroke("ideal", oracle, x, y), _stroke("curve", row, x, y)]
    parts += [_dots("ring", oracle, x, y), _dots("dot", row, x, y)]
    return picture(f"{title}: accuracy over the requests", MINI_WIDTH, MINI_HEIGHT, Markup("").join(parts))


def _stroke(kind: str, points: Points, x: Scale, y: Scale) -> Markup:
    at = [(x.at(j), y.at(point.mean)) for j, point in enumerate(points) if point is not None]
    path = " ".join(f"{number(a)},{number(b)}" for a, b in at)
    return Markup('<polyline class="{}" points="{}"/>').format(kind, path) if len(at) > 1 else Markup("")


def _dots(kind: str, points: Points, x: Scale, y: Scale) -> Markup:
    at = [(number(x.at(j)), number(y.at(point.mean))) for j, point in enumerate(points) if point is not None]
    radius = "2" if kind == "dot" else "3"
    return Markup("").join(Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(kind, *p, radius) for p in at)


def _band(points: Points, x: Scale, y: Scale) -> Markup:
    found = [(x.at(j), point) for j, point in enumerate(points) if point is not None and point.n > 1]
    edge = [(a, y.at(point.high)) for a, point in found] + [(a, y.at(point.low)) for a, point in reversed(found)]
    path = " ".join(f"{number(a)},{number(b)}" for a, b in edge)
    return Markup('<polygon class="band" points="{}"/>').format(path) if found else Markup("")
