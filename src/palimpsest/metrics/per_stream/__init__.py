"""Metrics of a whole stream of requests: what is left at its end, what was lost, what came back; one file each.

A file of this folder (or of any added to ``palimpsest.metrics.per_stream.__path__``) is one when it sets
``STREAM_METRIC`` at its top level. A bench shows all of them, for every row and seed.

Differences of two readings are means over the same examples, those in both: of a task, as of a forget set, a part may
go later, and the rest may have been easier all along. Accuracies are shares on the way in and points on the way out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

from palimpsest.method_file import files_that_set

ById = Mapping[str, float]


@dataclass(frozen=True)
class Course:
    """What was measured along a stream; one entry per request, in order.

    Attributes:
        taught: task -> example -> value, of what is still known of every task taught so far.
        forgotten: forget set -> example -> value, of what is still forgotten of every forget set so far.
    """

    taught: Sequence[Mapping[str, ById]]
    forgotten: Sequence[Mapping[str, ById]]

    @property
    def last(self) -> Mapping[str, ById]:
        """Of every task, after the last request."""
        return self.taught[-1] if self.taught else {}

    def earlier(self, task: str) -> list[ById]:
        """Of a task, after each request but the last."""
        return [tasks[task] for tasks in self.taught[:-1] if task in tasks]


class StreamMetric:
    """One quantity of a stream. Subclass it in ``metrics/per_stream/<name>.py`` and set ``STREAM_METRIC``.

    Class attributes:
        column: its head in a table.
        means: what its value says, a few words with the unit.
        of: which values of an example it is computed from, "accuracy" (a share) or "strength" (ES).
        place: where it stands in a table; lower is further left.
        version: bumped when a value could change.
    """

    column: ClassVar[str]
    means: ClassVar[str]
    of: ClassVar[str] = "accuracy"
    place: ClassVar[int] = 100
    version: ClassVar[int]

    def compute(self, course: Course) -> float | None:
        """Its value; None where the stream has nothing to compute it from."""
        raise TypeError(f"{type(self).__name__} defines no compute")


def stream_metrics() -> tuple[StreamMetric, ...]:
    """All of them, in the order of a table."""
    names = sorted({file.stem for file in files_that_set("STREAM_METRIC", __path__)})
    found: list[StreamMetric] = [import_module(f"{__name__}.{name}").STREAM_METRIC() for name in names]
    return tuple(sorted(found, key=lambda metric: metric.place))


def level(values: ById) -> float:
    """Mean over examples, at least one.

    >>> level({"a": 1.0, "b": 0.5})
    0.75
    """
    return math.fsum(values.values()) / len(values)


def rise(before: ById, after: ById) -> float | None:
    """Mean of after − before over the examples in both; None without any.

    >>> rise({"a": 1.0, "b": 0.0}, {"a": 0.5, "c": 1.0})
    -0.5
    """
    both = before.keys() & after.keys()
    return math.fsum(after[i] - before[i] for i in both) / len(both) if both else None


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of those values that are there; None without any.

    >>> mean_of([1.0, None, 3.0])
    2.0
    """
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def relapse(after: Sequence[ById]) -> float | None:
    """Highest rise of one forget set above its first values; None when nothing came later.

    Args:
        after: example -> what was measured, on what is still forgotten of it, after the request that forgot it and
            after each later one.

    >>> relapse([{"a": 10.0, "b": 0.0}, {"a": 12.5, "b": 0.0}, {"a": 11.0}, {}])
    1.25
    """
    first, *later = after or [{}]
    return max((value for now in later if (value := rise(first, now)) is not None), default=None)


def worst_relapse(course: Course) -> float | None:
    """Highest relapse of any forget set."""
    names = dict.fromkeys(name for sets in course.forgotten for name in sets)
    found = [relapse([sets[name] for sets in course.forgotten if name in sets]) for name in names]
    return max((value for value in found if value is not None), default=None)
