"""From a bench to what its page shows: cells of tables, pictures, words. Nothing here reaches torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from palimpsest.bench.results import FORGOT, ORACLE, TASK, BenchResult, RowStep, StreamRequestInfo
from palimpsest.bench.scores import Spread, gap, spread
from palimpsest.bench.show.charts import Points, gap_bars, mini, stream_picture
from palimpsest.bench.show.summary import (
    DECIMALS,
    GAPS,
    STRENGTHS,
    BenchColumn,
    BenchTable,
    Values,
    blocks,
    components,
    divergences,
    strengths,
    table_of,
)
from palimpsest.report.numbers import NONE, show_or_dash


class BenchCell(NamedTuple):
    """Mean over the seeds, and their range where there are several."""

    value: str
    spread: str


class TableView(NamedTuple):
    """One table: heads with what they mean, and rows of cells."""

    title: str
    caption: str
    heads: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[BenchCell, ...]], ...]


CAPTIONS = {
    "Distance to the oracle": "Absolute differences to the oracle of each request, points. LA, UA, RA: "
    "accuracy on what is learned, unlearned and remaining; TA: on test data of the classes still known; MIA: the share "
    "of the forget set that an attack calls trained on. A gap is the mean of those that a request has.",
    "Values": "The same quantities themselves, means over the requests. A forget set is not to be at 0: it is to be "
    "where the oracle is.",
    "Behaviour": "KL(oracle ‖ model) in nats. Of the tasks: what is known at the end (ACC), how far each has fallen "
    "from its best (FM) and changed since it was taught (BWT), the last task apart; A and F as CLPU has them, over all "
    "requests. Relapse: whether a forget set comes back.",
    "Cost": "Wall-clock of masks, references and training; measuring, loading and saving apart.",
}
STRENGTH_CAPTION = " LES, UES, RES: extraction strength on the same sets, a share; no part of a gap."
_TITLES = {"gaps": "Distance to the oracle", "values": "Values", "behaviour": "Behaviour", "cost": "Cost"}


def table_views(result: BenchResult) -> tuple[TableView, ...]:
    """Every table over the whole stream."""
    return tuple(_table_view(result, _TITLES[name], columns) for name, columns in blocks().items())


def _table_view(result: BenchResult, title: str, columns: Sequence[BenchColumn]) -> TableView:
    found = table_of(result, columns)
    if columns is GAPS:
        del found[ORACLE]  # its distance to itself
    about = {column.name: column.about for column in columns}
    heads = tuple((name, about[name]) for name in next(iter(found.values())))
    caption = CAPTIONS[title] + (STRENGTH_CAPTION if STRENGTHS.keys() & {n for n, _ in heads} else "")
    return TableView(title, caption, heads, _rows(found))


def _rows(found: BenchTable) -> tuple[tuple[str, tuple[BenchCell, ...]], ...]:
    return tuple((label, tuple(cell(name, v) for name, v in values.items())) for label, values in found.items())


def cell(name: str, value: Spread | None) -> BenchCell:
    """One number of a column.

    >>> cell("gap", Spread(1.0, 0.5, 1.5, 2))
    BenchCell(value='1.00', spread='0.50–1.50')
    """
    if value is None:
        return BenchCell(NONE, "")
    mean, low, high = (show_or_dash(v, DECIMALS.get(name, 2)) for v in (value.mean, value.low, value.high))
    return BenchCell(mean, f"{low}–{high}" if low != high else "")


def request_views(result: BenchResult) -> tuple[TableView, ...]:
    """One table per request: every row beside its oracle."""
    requests = next(iter(result.streams.values()))
    return tuple(_request_view(result, number, request.name) for number, request in enumerate(requests))


def _request_view(result: BenchResult, number: int, name: str) -> TableView:
    oracle = {seed: steps[number] for seed, steps in result.rows[ORACLE].items()}
    found: BenchTable = {}
    for label, seeds in result.rows.items():
        numbers = [_numbers(steps[number], oracle[seed]) for seed, steps in seeds.items()]
        found[label] = {key: spread([values[key] for values in numbers]) for key in numbers[0]}
    table = _without_empty(found)
    return TableView(f"{number}: {name}", "", tuple((key, "") for key in table[ORACLE]), _rows(table))


def _without_empty(table: BenchTable) -> BenchTable:
    """A table without the columns in which no row has a number."""
    kept = [key for key in table[ORACLE] if any(values[key] is not None for values in table.values())]
    return {label: {key: values[key] for key in kept} for label, values in table.items()}


def _numbers(step: RowStep, oracle: RowStep) -> Values:
    """One row on one request."""
    mine = components(step.reading)
    cost: Values = {"seconds": step.seconds, "time share": step.seconds / oracle.seconds if oracle.seconds else None}
    distance: Values = {"gap": gap(mine, components(oracle.reading))}
    return {**mine, **strengths(step.reading), **distance, **divergences(step.reading), **cost}


def streams(result: BenchResult) -> tuple[tuple[str, Markup], ...]:
    """Caption and picture of every stream that differs from the others."""
    found: list[tuple[tuple[StreamRequestInfo, ...], list[str]]] = []
    for seed, requests in result.streams.items():
        same = next((seeds for known, seeds in found if known == requests), None)
        if same is None:
            found.append((requests, [str(seed)]))
        else:
            same.append(str(seed))
    return tuple((f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}", stream_picture(r)) for r, seeds in found)


def gap_picture(result: BenchResult) -> Markup:
    """Mean and worst gap of every row."""
    found = table_of(result, GAPS)
    return gap_bars({label: (v.get("gap"), v.get("worst")) for label, v in found.items() if label != ORACLE})


def curve_views(result: BenchResult) -> tuple[tuple[str, tuple[Markup, ...]], ...]:
    """Row -> one small picture per task and forget set."""
    titles = _curve_titles(result)
    oracle = {name: _points(result.rows[ORACLE], name) for name in titles}
    return tuple(
        (label, tuple(mini(title, _points(seeds, name), oracle[name]) for name, title in titles.items()))
        for label, seeds in result.rows.items()
        if label != ORACLE
    )


def _curve_titles(result: BenchResult) -> dict[str, str]:
    """Set -> title; tasks first, then forget sets, each in the order of the stream; before them all that was taught."""
    requests = next(iter(result.streams.values()))
    steps = [step for seeds in result.rows[ORACLE].values() for step in seeds]
    measured = {name for step in steps for name in step.reading.sets}
    everything = {"test": "all so far, test"} if result.bench.get("tasks_on") == "test" else {}
    numbered = [(kind + r.name, f"{j}: {r.name}") for kind in (TASK, FORGOT) for j, r in enumerate(requests)]
    return {name: title for name, title in (*everything.items(), *numbered) if name in measured}


def _points(seeds: dict[int, tuple[RowStep, ...]], name: str) -> Points:
    """Accuracy over the requests, points: mean and range over the seeds."""
    by_request = zip(*seeds.values(), strict=True)
    return [spread([_accuracy(step, name) for step in steps]) for steps in by_request]


def _accuracy(step: RowStep, name: str) -> float | None:
    score = step.reading.sets.get(name)
    return None if score is None else 100 * score.accuracy
