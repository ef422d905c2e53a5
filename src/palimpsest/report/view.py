"""What the page shows, as plain rows: the template only lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from palimpsest.data.sets.roles import ROLES
from palimpsest.records import short_id
from palimpsest.report.glossary import full_name
from palimpsest.report.nouns import column_name, things
from palimpsest.report.numbers import NONE, count, interval_or_nothing, show_or_dash
from palimpsest.report.schema import Column, CostRow, RunResult, ScoreRow
from palimpsest.report.worst import worst

SET_ORDER = tuple(ROLES)
METRICS_ABREAST = 4
"""Metrics in one per-example table, so that it fits the page."""
MAX_EXAMPLES = 500
"""Rows of the per-example table; the JSON twin has them all."""

COST_NAMES = {
    "preparing": "preparing: masks, pairs, levels",
    "level": "of it: level of never seen, own words, first readings",
    "training": "training",
    "foretold": "said before: training would take",
    "steps": "of it: steps of the method, of the sweep and of repair",
    "readings": "of it: readings",
    "snapshots": "of it: snapshots",
    "before": "measuring before",
    "raw": "measuring what the change left",
    "calibrating": "finding how much of the change can stay",
    "after": "measuring after",
    "without": "measuring with the guards off",
    "oracle": "measuring the oracle",
    "oracle_training": "training the oracle",
}


class Cell(NamedTuple):
    """One value of the main table, written out."""

    column: str
    value: str
    interval: str
    note: str


class WorstCell(NamedTuple):
    """The worst example of a set by one metric, written out."""

    label: str
    value: str
    id: str


class MetricRow(NamedTuple):
    """One metric of one set; ``n`` is empty where it is the set's, and where the cells differ in it and say it."""

    metric: str
    full_name: str
    arrow: str
    direction: str
    unit: str
    n: str
    cells: tuple[Cell, ...]
    worst: WorstCell | None


class SetRows(NamedTuple):
    """The metrics of one set."""

    name: str
    size: str
    rows: tuple[MetricRow, ...]


class ExampleRow(NamedTuple):
    """One example: its id, the id in full, and its values metric by metric, in the columns."""

    id: str
    full_id: str
    values: tuple[tuple[str, ...], ...]


class ExampleRows(NamedTuple):
    """A per-example table: as many metrics as fit beside each other."""

    set: str
    metrics: tuple[str, ...]
    rows: tuple[ExampleRow, ...]
    total: int


class CostLine(NamedTuple):
    """One line of the cost table."""

    name: str
    seconds: str
    tokens: str
    mebibytes: str


def row_keys(result: RunResult) -> tuple[tuple[str, str], ...]:
    """Every (set, metric) of a run: sets in the order forget, learn, retain, ..., metrics as they were measured."""
    seen = [(name, metric) for sets in result.scores.values() for name, metrics in sets.items() for metric in metrics]
    names = list(dict.fromkeys(name for name, _ in seen))
    names.sort(key=lambda name: SET_ORDER.index(name) if name in SET_ORDER else len(SET_ORDER))
    metrics = list(dict.fromkeys(metric for _, metric in seen))
    return tuple((name, metric) for name in names for metric in metrics if (name, metric) in set(seen))


def any_score(result: RunResult, name: str, metric: str) -> ScoreRow | None:
    """The score of a metric on a set in the first column that has it: for its unit and direction."""
    found = (sets.get(name, {}).get(metric) for sets in result.scores.values())
    return next((score for score in found if score is not None), None)


def main_table(result: RunResult) -> tuple[SetRows, ...]:
    """The before / after / oracle table."""
    keys = row_keys(result)
    groups = []
    for name in dict.fromkeys(name for name, _ in keys):
        rows = tuple(_metric_row(result, name, metric) for owner, metric in keys if owner == name)
        size = things(result, result.sets[name].n) if name in result.sets else ""
        groups.append(SetRows(name, size, rows))
    return tuple(groups)


def _metric_row(result: RunResult, name: str, metric: str) -> MetricRow:
    score = any_score(result, name, metric)
    direction, unit = (str(score.direction), score.unit) if score else ("", "")
    found = {column: sets.get(name, {}).get(metric) for column, sets in result.scores.items()}
    alike = len({s.n for s in found.values() if s is not None}) == 1
    cells = tuple(_cell(column, s, with_n=not alike or bool(s and s.unscored)) for column, s in found.items())
    return MetricRow(
        metric,
        full_name(metric),
        "↑" if direction.startswith("higher") else "↓",
        direction,
        unit,
        _own_n(result, name, score) if alike else "",
        cells,
        _worst_cell(result, name, metric),
    )


def _own_n(result: RunResult, name: str, score: ScoreRow | None) -> str:
    """How many examples were scored, where they are not all of the set."""
    size = result.sets[name].n if name in result.sets else -1
    return "" if score is None or score.n == size else _n(score.n)


def _n(number: int) -> str:
    return f"n\u00a0{count(number)}"


def _cell(column: str, score: ScoreRow | None, *, with_n: bool) -> Cell:
    if score is None:
        return Cell(column, NONE, "", "not measured")
    unscored = f"{count(score.unscored)} unscored" if score.unscored else ""
    note = ", ".join(part for part in (_n(score.n) if with_n else "", unscored) if part)
    return Cell(column, show_or_dash(score.value), interval_or_nothing(score.low, score.high), note)


def _worst_cell(result: RunResult, name: str, metric: str) -> WorstCell | None:
    found = worst(result, name, metric)
    return None if found is None else WorstCell("worst after", show_or_dash(found.value), short_id(found.id))


def focus(result: RunResult) -> str | None:
    """The set the run is about: forget, else learn, else the first one measured."""
    names = [name for name, _ in row_keys(result)]
    return next((name for name in ("forget", "learn") if name in names), names[0] if names else None)


def example_tables(result: RunResult) -> tuple[ExampleRows, ...]:
    """Values of each example of the focus set, at most ``MAX_EXAMPLES`` rows; a table for every four metrics."""
    name = focus(result)
    metrics = tuple(metric for owner, metric in row_keys(result) if owner == name)
    return tuple(
        found
        for start in range(0, len(metrics), METRICS_ABREAST)
        if (found := _example_rows(result, str(name), metrics[start : start + METRICS_ABREAST])) is not None
    )


def _example_rows(result: RunResult, name: str, metrics: Sequence[str]) -> ExampleRows | None:
    scores = [[sets.get(name, {}).get(metric) for sets in result.scores.values()] for metric in metrics]
    ids = list(dict.fromkeys(key for found in scores for score in found if score for key in score.by_id))
    if not ids:
        return None
    rows = tuple(_example_row(example_id, scores) for example_id in ids[:MAX_EXAMPLES])
    return ExampleRows(name, tuple(metrics), rows, len(ids))


def _example_row(example_id: str, scores: Sequence[Sequence[ScoreRow | None]]) -> ExampleRow:
    """Its values: for each metric those of the columns."""
    values = tuple(tuple(show_or_dash(s.by_id.get(example_id) if s else None) for s in found) for found in scores)
    return ExampleRow(short_id(example_id), example_id, values)


def cost_table(result: RunResult) -> tuple[CostLine, ...]:
    """Seconds, positions and peak memory of every part of the run."""
    names = sorted(
        result.cost, key=lambda name: list(COST_NAMES).index(name) if name in COST_NAMES else len(COST_NAMES)
    )
    return tuple(_cost_line(COST_NAMES.get(name, name), result.cost[name]) for name in names)


def _cost_line(name: str, cost: CostRow) -> CostLine:
    return CostLine(name, show_or_dash(cost.seconds), count(cost.tokens), count(round(cost.peak_bytes / 2**20)))


def verdict_words(result: RunResult) -> str:
    """The verdict's sentence without the outcome that the page already says above it."""
    if result.verdict is None:
        return ""
    words = result.verdict.sentence
    prefix = f"{result.verdict.outcome.capitalize()}: "
    rest = words.removeprefix(prefix)
    return rest[:1].upper() + rest[1:]


def plain_words(result: RunResult) -> str:
    """The plain sentence without the outcome that the page already says above it; empty in files of 0.1.0."""
    if result.verdict is None:
        return ""
    rest = result.verdict.plain.removeprefix(f"{result.verdict.outcome.capitalize()}: ")
    return rest[:1].upper() + rest[1:]


def not_judged(result: RunResult) -> str:
    """What was looked at in a run that no gate was asked of, and how to have it judged."""
    name = focus(result)
    looked = [
        f"{name} {metric} {', '.join(f'{show_or_dash(s.value)} {column_name(column)}' for column, s in found)}"
        for owner, metric in row_keys(result)
        if owner == name
        and (found := [(c, s[name][metric]) for c, s in result.scores.items() if metric in s.get(name or "", {})])
    ]
    return (
        f"Reported, not judged: {'; '.join(looked[:3]) or 'nothing was measured'}. For a verdict give --retain or "
        "--general, which must be kept, or gates in --plan."
    )


def columns(result: RunResult) -> tuple[Column, ...]:
    """The columns that were measured, in order."""
    return tuple(result.scores)
