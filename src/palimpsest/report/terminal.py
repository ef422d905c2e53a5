"""The before / after / oracle table for a terminal: ASCII apart from the user's names, at most 100 columns."""

from __future__ import annotations

import textwrap

from palimpsest.data.sets.roles import ROLES
from palimpsest.printed import fitted, printable
from palimpsest.records import Direction, short_id
from palimpsest.report.nouns import column_name
from palimpsest.report.numbers import interval_or_nothing, show_or_dash
from palimpsest.report.schema import NOT_JUDGED, Column, RunResult, ScoreRow
from palimpsest.report.view import not_judged, row_keys, verdict_words
from palimpsest.report.worst import worst

TERMINAL_WIDTH = 100
SET_WIDTH, METRIC_WIDTH, WORST_WIDTH = max(map(len, ROLES)), 12, 8
NAME_WIDTH = 4  # of a set or a metric, where wide numbers leave no more
GAP = 2


def table(result: RunResult) -> str:
    """Every score of a run as fixed-width text.

    Args:
        result: the run.

    Returns:
        Lines of at most 100 columns: one row per set and metric with n, then each column as "value [low, high]"
        (95 % intervals), then the worst example after the run with its id, as far as there is room; below it direction
        and unit of every metric, and what could not be scored. Names too long for their column end in "..". Numbers are
        never cut: where they are too wide, the intervals are left out.
    """
    columns = tuple(result.scores)
    rows = [("set", "metric", "n", *map(column_name, columns)), *_rows(result, intervals=True)]
    if _room_for_names(rows) < 2 * NAME_WIDTH:
        rows[1:] = _rows(result, intervals=False)
    cut = _fitted(rows)
    widths = _widths(cut)
    worst_cells, width = _worst(result, TERMINAL_WIDTH - sum(widths) - GAP * len(widths))
    if width:
        cut = [(*row, cell) for row, cell in zip(cut, worst_cells, strict=True)]
        widths.append(width)
    lines = [_line(row, widths) for row in cut]
    lines.insert(1, "-" * min(TERMINAL_WIDTH, sum(widths) + GAP * (len(widths) - 1)))
    about = _wrap(_about_worst(result)) if width else []
    return "\n".join([*lines, *_legend(result), *about, *_unscored(result)])


def _widths(rows: list[tuple[str, ...]]) -> list[int]:
    return [max(map(len, cells)) for cells in zip(*rows, strict=True)]


def _room_for_names(rows: list[tuple[str, ...]]) -> int:
    """What n and the columns leave to set and metric."""
    _, _, *numbers = _widths(rows)
    return TERMINAL_WIDTH - sum(numbers) - GAP * (len(numbers) + 1)


def _fitted(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows with names of sets and metrics cut to what is there for them; the metric gives way first."""
    wide, room = _widths(rows), _room_for_names(rows)
    of_set = min(wide[0], SET_WIDTH, room - min(wide[1], NAME_WIDTH))
    of_metric = min(wide[1], METRIC_WIDTH, room - of_set)
    return [(fitted(name, of_set, ".."), fitted(metric, of_metric, ".."), *cells) for name, metric, *cells in rows]


def _rows(result: RunResult, *, intervals: bool) -> list[tuple[str, ...]]:
    """Set, metric, n and the columns, written out in full."""
    rows = []
    for name, metric in row_keys(result):
        found = [sets.get(name, {}).get(metric) for sets in result.scores.values()]
        rows.append((name, metric, _n(found), *(_cell(score, interval=intervals) for score in found)))
    return rows


def _worst(result: RunResult, room: int) -> tuple[list[str], int]:
    """The last column with its head, and its width; 0 where there is none, or no room for it."""
    cells = ["worst"]
    for name, metric in row_keys(result):
        found = worst(result, name, metric)
        cells.append(
            "" if found is None else fitted(f"{show_or_dash(found.value)} {printable(short_id(found.id))}", room, "..")
        )
    width = max(map(len, cells))
    return (cells, width) if any(cells[1:]) and room >= WORST_WIDTH else ([], 0)


def _about_worst(result: RunResult) -> str:
    forgets = any(name == "forget" for name, _ in row_keys(result))
    which = "of the forget set the one still known best, of what is to stay " if forgets else ""
    return f"worst: the worst example after the run, {which}the one known least"


def verdict(result: RunResult) -> list[str]:
    """The verdict in plain words, which gates it rests on, each gate, and what to do next; lines of any length."""
    moved = [result.moved] if result.moved else []
    if result.verdict is None:
        return [not_judged(result), *moved] if result.kind not in NOT_JUDGED else []
    given = result.verdict
    lines = [given.plain, f"  {verdict_words(result)}"] if given.plain else [given.sentence]
    lines += [*moved, *(f"  {gate.outcome:9} {gate.sentence}" for gate in given.gates)]
    return [*lines, "", "What to do next:", *(f"  * {line}" for line in result.advice)] if result.advice else lines


def _cell(score: ScoreRow | None, *, interval: bool) -> str:
    if score is None or score.value is None:
        return "-"
    beside = interval_or_nothing(score.low, score.high) if interval else ""
    return f"{show_or_dash(score.value)} {beside}".rstrip()


def _n(scores: list[ScoreRow | None]) -> str:
    counts = [score.n for score in scores if score is not None]
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}-{high}"


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        text.rjust(width) if i == 2 else text.ljust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _legend(result: RunResult) -> list[str]:
    """Direction and unit of each metric, once."""
    known: dict[Direction, list[str]] = {}
    for name, metric in row_keys(result):
        score = next(sets[name][metric] for sets in result.scores.values() if metric in sets.get(name, {}))
        words = f"{metric} ({score.unit})"
        if words not in known.setdefault(score.direction, []):
            known[score.direction].append(words)
    return [line for direction, words in known.items() for line in _wrap(f"{direction}: {', '.join(words)}")]


def _unscored(result: RunResult) -> list[str]:
    parts = [_unscored_in(column, result) for column in result.scores]
    words = ", ".join(part for part in parts if part)
    return _wrap(f"could not be scored, and never counted as 0: {words}") if words else []


def _unscored_in(column: Column, result: RunResult) -> str:
    sets = result.scores[column]
    return ", ".join(
        f"{name} {metric} {column} {score.unscored} of {score.unscored + score.n}" + (score.why and f" ({score.why})")
        for name, metrics in sets.items()
        for metric, score in metrics.items()
        if score.unscored
    )


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, TERMINAL_WIDTH, subsequent_indent="  ")
