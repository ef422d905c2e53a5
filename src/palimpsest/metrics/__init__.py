"""Metrics of language models and image classifiers: one quantity, one file; this folder is the registry.

A file of this folder (or of any folder added to ``palimpsest.metrics.__path__``) is a metric when it sets ``METRIC`` at
its top level; the others are what the metrics share. Listing the names reads the files and imports none of them.

What needs several sets, or all requests of a stream, is a metric of a folder below: ``per_set``, ``per_stream``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.errors import PlanError, unknown
from palimpsest.method_card import KIND_WORDS, Modality
from palimpsest.method_file import files_that_set

if TYPE_CHECKING:
    from pydantic import ValidationError

    from palimpsest.metrics.metric import Metric

__all__ = ["build", "files", "load", "names", "refuse_kind"]


def names() -> tuple[str, ...]:
    """Names of all metrics, sorted; no metric is imported.

    >>> "ma" in names()
    True
    """
    return tuple(sorted({file.stem for file in files()}))


def files() -> Iterator[Path]:
    """The files of all metrics."""
    return files_that_set("METRIC", __path__)


def load(name: str) -> type[Metric]:
    """The class of a metric.

    Raises:
        PlanError: no metric of that name.
    """
    if name not in names():
        raise PlanError(unknown("metric", name, names()))
    metric: type[Metric] = import_module(f"{__name__}.{name}").METRIC
    return metric


def build(name: str, options: Mapping[str, Any]) -> Metric:
    """A metric with its options.

    Args:
        name: one of ``names()``.
        options: option name -> value; what is left out takes its default.

    Raises:
        PlanError: unknown metric, unknown option, or a value that is not accepted; all problems in one line.
    """
    from pydantic import ValidationError

    metric = load(name)
    try:
        config = metric.Config(**{str(key): value for key, value in options.items()})
    except ValidationError as error:
        raise PlanError(_explain(name, metric, error)) from None
    return metric(config)


def refuse_kind(metrics: Iterable[Metric], kind: Modality) -> None:
    """Refuse metrics that cannot be taken of a kind of examples.

    Raises:
        PlanError: names all of them, and those that can.
    """
    wrong = [metric.key for metric in metrics if kind not in metric.modalities]
    if wrong:
        able = ", ".join(name for name in names() if kind in load(name).modalities)
        raise PlanError(f"metrics {', '.join(wrong)} cannot be taken of {KIND_WORDS[kind]}; accepted: {able}")


def _explain(name: str, metric: type[Metric], error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        option = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(unknown(f"option of metric {name!r}", option, metric.Config.model_fields))
        else:
            problems.append(f"metric {name!r}: option {option!r} is {problem['input']!r}; {problem['msg']}")
    return "; ".join(problems)
