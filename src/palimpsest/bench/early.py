"""What of a bench can be refused by names and data files alone, before torch is imported and a model loaded.

Only plain values are looked at; whatever else there is, ``make_bench`` refuses in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palimpsest import methods
from palimpsest.bench.labels import label_of, tasks_of_classes
from palimpsest.data.examples import read_examples
from palimpsest.data.scenarios import SCENARIO_NAMES
from palimpsest.errors import PlanError, unknown


def check_early(values: Mapping[str, Any]) -> None:
    """Methods, stream and classes per task.

    Args:
        values: of a bench, as ``make_bench`` takes them.

    Raises:
        PlanError: a method or stream that does not exist, or classes that do not divide.
        DataError: a data file that cannot be used.
    """
    rows, stream = values.get("rows"), values.get("stream", {})
    for label, chain in rows.items() if isinstance(rows, Mapping) else ():
        strangers = [n for n in chain.split("+") if n not in methods.names()] if isinstance(chain, str) else []
        if strangers:
            raise PlanError(unknown(f"method of row {label!r}", strangers[0], methods.names()))
    if isinstance(stream, Mapping):
        _check_stream(stream, values)


def _check_stream(stream: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    kind, per_task = stream.get("kind", SCENARIO_NAMES[0]), stream.get("classes_per_task", 2)
    if not isinstance(kind, str) or kind.endswith(".json"):
        return
    if kind not in SCENARIO_NAMES:
        raise PlanError(unknown("stream", kind, (*SCENARIO_NAMES, "FILE.json")))
    data: Any = values.get("data")
    sources = [data] if isinstance(data, str) else data if isinstance(data, list | tuple) else []
    sized = isinstance(per_task, int) and per_task > 0
    if not sized or stream.get("tasks", "classes") != "classes":
        return
    ignored = frozenset(values.get("ignore_columns") or ())
    examples = [e for source in sources for e in read_examples(str(source), ignore_columns=ignored)]
    if len({type(label_of(example)) for example in examples}) == 1:  # else the model says which classes are one
        tasks_of_classes(examples, per_task)
