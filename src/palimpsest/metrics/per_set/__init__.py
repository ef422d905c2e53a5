"""Metrics of several sets together: an attack, a distance between them. One quantity, one file; the folder is the list.

A file of this folder (or of any added to ``palimpsest.metrics.per_set.__path__``) is one when it sets ``SET_METRIC`` at
its top level. A bench computes all whose sets it has read, for every model.

Shape legend: N examples of one set.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from palimpsest.method_file import files_that_set
from palimpsest.metrics.statistics import bootstrap
from palimpsest.records import Direction, Score

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    Columns = Mapping[str, Float[np.ndarray, "N"]]

__all__ = ["SetMetric", "bootstrap", "set_metric", "set_metric_files", "set_metric_names"]


class SetMetric:
    """One quantity of several sets. Subclass it in ``metrics/per_set/<name>.py`` and set ``SET_METRIC``.

    Class attributes:
        needs: set -> key of the metric whose values of its examples are needed.
        column: its head in a table.
        means: what its value says, in one plain sentence.
        direction: which way it points.
        unit: of its value.
        low, high: ends of its range.
        version: bumped when a value could change.
    """

    needs: ClassVar[Mapping[str, str]]
    column: ClassVar[str]
    means: ClassVar[str]
    direction: ClassVar[Direction] = Direction.NEITHER
    unit: ClassVar[str]
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    version: ClassVar[int]

    @property
    def key(self) -> str:
        """Name in results: that of the file."""
        return type(self).__module__.rpartition(".")[2]

    def compute(self, columns: Columns, *, seed: int = 0) -> Score:
        """Its score.

        Args:
            columns: set -> values of its examples, for the sets and metrics of ``needs``; none empty.
            seed: of the bootstrap, where it has an interval.
        """
        raise TypeError(f"{type(self).__name__} defines no compute")

    def score(self, value: float, count: int, interval: tuple[float | None, float | None] = (None, None)) -> Score:
        """A value as a score.

        Args:
            value: in its unit.
            count: examples it rests on.
            interval: ends of its confidence interval.
        """
        low, high = interval
        return Score(self.key, value, low, high, count, 0, self.direction, self.unit, self.version)


def set_metric_files() -> tuple[Path, ...]:
    """The files of all metrics of sets, by name; none is imported."""
    return tuple(sorted(files_that_set("SET_METRIC", __path__), key=lambda file: file.stem))


def set_metric_names() -> tuple[str, ...]:
    """Names of all metrics of sets, sorted; none is imported."""
    return tuple(file.stem for file in set_metric_files())


def set_metric(name: str) -> SetMetric:
    """One of ``set_metric_names``."""
    found: SetMetric = import_module(f"{__name__}.{name}").SET_METRIC()
    return found
