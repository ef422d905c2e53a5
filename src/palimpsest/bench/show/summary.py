"""From the facts of a bench to the numbers of its tables: per row and seed, then mean and range over the seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from palimpsest.bench.results import FORGOT, ORACLE, TASK, BenchResult, RowStep, StepReading
from palimpsest.bench.scores import Spread, differences, gap, spread
from palimpsest.bench.show.already_known import known_before
from palimpsest.metrics.per_set import SetMetric, set_metric, set_metric_names
from palimpsest.metrics.per_stream import Course, StreamMetric, stream_metrics

COMPONENTS = {"LA": "learn", "UA": "forget", "RA": "retain", "TA": "test"}
"""Accuracy on a set, points; MIA, points too, is the fifth component."""
STRENGTHS = {"LES": "learn", "UES": "forget", "RES": "retain"}
"""Extraction strength on a set, a share."""
DIVERGENCES = {"KL L": "learn", "KL U": "forget", "KL R": "retain"}
"""KL(oracle ‖ model) on a set, nats."""
SHOWN_AS_POINTS = ("mia_entropy", "mia_power")
"""Metrics of several sets that have their own places: MIA among the components, its power in what limits the bench."""
DECIMALS = {"stopped": 0}
"""Of the columns that are not written with two."""

Values = dict[str, float | None]


class BenchColumn(NamedTuple):
    """One number of a row.

    Attributes:
        name: in the head of a table.
        about: one sentence.
        of: (steps of the row, steps of the oracle) -> its value, for one seed.
    """

    name: str
    about: str
    of: Callable[[Sequence[RowStep], Sequence[RowStep]], float | None]


def components(reading: StepReading) -> Values:
    """LA, UA, RA, TA and MIA, points; None where the request has no such set."""
    found: Values = {name: _of_set(reading, key, "accuracy", 100) for name, key in COMPONENTS.items()}
    return {**found, "MIA": None if reading.mia is None else 100 * reading.mia}


def strengths(reading: StepReading) -> Values:
    """LES, UES and RES, shares."""
    return {name: _of_set(reading, key, "strength") for name, key in STRENGTHS.items()}


def divergences(reading: StepReading) -> Values:
    """KL L, KL U and KL R, nats."""
    return {name: _of_set(reading, key, "kl") for name, key in DIVERGENCES.items()}


def _of_set(reading: StepReading, name: str, field: str, factor: float = 1) -> float | None:
    value = getattr(reading.sets.get(name), field, None)
    return None if value is None else factor * value


def gaps(steps: Sequence[RowStep], oracle: Sequence[RowStep]) -> list[float | None]:
    """Gap of every request, points."""
    pairs = zip(steps, oracle, strict=True)
    return [gap(components(mine.reading), components(theirs.reading)) for mine, theirs in pairs]


def course_of(steps: Sequence[RowStep], of: str) -> Course:
    """What a row measured along its stream.

    Args:
        steps: of one seed.
        of: "accuracy" or "strength".
    """
    return Course(*([_by_id(step, kind, of) for step in steps] for kind in (TASK, FORGOT)))


def _by_id(step: RowStep, kind: str, of: str) -> dict[str, Mapping[str, float]]:
    """Set -> example -> value, for the tasks or forget sets of one request that were read."""
    sets = {name: score for name, score in step.reading.sets.items() if name.startswith(kind)}
    found = {name: score.accuracies if of == "accuracy" else score.strengths for name, score in sets.items()}
    return {name: values for name, values in found.items() if values}


def _mean(values: Sequence[float | None]) -> float | None:
    found = spread(values)
    return None if found is None else found.mean


def _worst(values: Sequence[float | None]) -> float | None:
    found = spread(values)
    return None if found is None else found.high


def _forgetting_requests(steps: Sequence[RowStep], values: Sequence[float | None]) -> list[float | None]:
    return [value for step, value in zip(steps, values, strict=True) if "forget" in step.reading.sets]


def _share(steps: Sequence[RowStep], oracle: Sequence[RowStep], field: str) -> float | None:
    """What requests that forget cost, by what their oracles cost."""
    pairs = [(s, o) for s, o in zip(steps, oracle, strict=True) if "forget" in s.reading.sets]
    mine, theirs = (sum(getattr(pair[side], field) for pair in pairs) for side in (0, 1))
    return mine / theirs if theirs else None


def _difference(name: str, values_of: Callable[[StepReading], Values]) -> BenchColumn:
    def of(steps: Sequence[RowStep], oracle: Sequence[RowStep]) -> float | None:
        pairs = zip(steps, oracle, strict=True)
        found = [differences(values_of(a.reading), values_of(b.reading)).get(name) for a, b in pairs]
        return _mean([None if value is None else abs(value) for value in found])

    return BenchColumn(name, "mean over the requests of the absolute difference to the oracle", of)


def _value(name: str, values_of: Callable[[StepReading], Values], about: str) -> BenchColumn:
    return BenchColumn(name, about, lambda steps, _: _mean([values_of(step.reading)[name] for step in steps]))


GAPS = (
    BenchColumn("gap", "mean over the requests", lambda s, o: _mean(gaps(s, o))),
    BenchColumn("worst", "of any request", lambda s, o: _worst(gaps(s, o))),
    BenchColumn("gap U", "mean over the requests that forget", lambda s, o: _mean(_forgetting_requests(s, gaps(s, o)))),
    *(_difference(name, components) for name in (*COMPONENTS, "MIA")),
    *(_difference(name, strengths) for name in STRENGTHS),
)
VALUES = (
    *(_value(name, components, "mean over the requests, points") for name in (*COMPONENTS, "MIA")),
    *(_value(name, strengths, "mean over the requests, a share") for name in STRENGTHS),
)
DISTANCES = tuple(
    _value(name, divergences, "KL(oracle to model), mean over the requests, nats") for name in DIVERGENCES
)
COST = (
    BenchColumn("seconds", "all requests together", lambda s, _: sum(step.seconds for step in s)),
    BenchColumn("time share", "requests that forget, by their oracles", lambda s, o: _share(s, o, "seconds")),
    BenchColumn("token share", "the same in positions", lambda s, o: _share(s, o, "tokens")),
    BenchColumn("stopped", "requests that were rejected", lambda s, _: sum(step.stopped is not None for step in s)),
)
BenchTable = dict[str, dict[str, Spread | None]]


def blocks() -> dict[str, Sequence[BenchColumn]]:
    """Every table with its columns; of several sets and of a stream all that there are files of."""
    further = [metric for metric in map(set_metric, set_metric_names()) if metric.key not in SHOWN_AS_POINTS]
    return {
        "gaps": GAPS,
        "values": (*VALUES, *map(_of_sets, further)),
        "behaviour": (*DISTANCES, *map(_of_stream, stream_metrics())),
        "cost": COST,
    }


def _of_sets(metric: SetMetric) -> BenchColumn:
    about = f"{metric.means} Mean over the requests, {metric.unit}"
    return BenchColumn(metric.column, about, lambda s, _: _mean([step.reading.over_sets.get(metric.key) for step in s]))


def _of_stream(metric: StreamMetric) -> BenchColumn:
    return BenchColumn(metric.column, metric.means, lambda steps, _: metric.compute(course_of(steps, metric.of)))


def table_of(result: BenchResult, columns: Sequence[BenchColumn]) -> BenchTable:
    """Row -> column -> mean and range over the seeds; columns that are empty in every row are left out."""
    oracle = result.rows[ORACLE]
    found: BenchTable = {
        label: {column.name: _over_seeds(column, seeds, oracle) for column in columns}
        for label, seeds in result.rows.items()
    }
    kept = [column.name for column in columns if any(found[label][column.name] is not None for label in found)]
    return {label: {name: values[name] for name in kept} for label, values in found.items()}


def _over_seeds(
    column: BenchColumn, seeds: Mapping[int, Sequence[RowStep]], oracle: Mapping[int, Sequence[RowStep]]
) -> Spread | None:
    return spread([column.of(steps, oracle[seed]) for seed, steps in seeds.items()])


def noise(result: BenchResult) -> dict[str, Spread]:
    """How far two oracles of different seeds are apart, over requests and seeds; empty without twins.

    No method can be expected to come nearer: "gap U", "KL L", "KL U" and "KL R", as in the tables.
    """
    pairs = [(s.twin, s.reading) for steps in result.rows[ORACLE].values() for s in steps if s.twin is not None]
    apart = [gap(components(twin), components(first)) for twin, first in pairs if "forget" in first.sets]
    spreads = {"gap U": spread(apart)}
    spreads |= {name: spread([divergences(twin)[name] for twin, _ in pairs]) for name in DIVERGENCES}
    return {name: value for name, value in spreads.items() if value is not None}


def summary(result: BenchResult) -> dict[str, Any]:
    """All tables as JSON values: table -> row -> column -> mean, low, high and n over the seeds."""
    tables = {title: table_of(result, columns) for title, columns in blocks().items()}
    return {
        title: {label: {n: v._asdict() for n, v in row.items() if v is not None} for label, row in rows.items()}
        for title, rows in tables.items()
    } | {
        "warnings": list(known_before(result)),
        "noise": {name: value._asdict() for name, value in noise(result).items()},
    }
