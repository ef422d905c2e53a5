"""Learn new data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from palimpsest.data.read.layout import Source
from palimpsest.errors import PlanError
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import Arguments
from palimpsest.verbs.change import change
from palimpsest.verbs.in_memory import Model


def learn(
    model: str | Path | Model,
    data: Source,
    *,
    output: str | Path | None = None,
    method: str = "finetune",
    plan: Mapping[str, Any] | None = None,
    **arguments: Unpack[Arguments],
) -> RunResult:
    """Teach a model new examples.

    Args:
        model: folder, Hub name, or a model in memory (``Model.of``), which is only read unless ``in_place=True``.
        data: the learn set.
        output: folder for the new model and its report; must not exist yet. None = nothing stays on the disk: the
            result is a ``Run`` that has the model and can be saved later.
        method: a learning method.
        plan: sections of the plan, e.g. {"training": {"learning_rate": 3e-3}}.
        arguments: the other sets, models and ways: see ``palimpsest.verbs.arguments.Arguments``.

    Returns:
        The result, as in ``result.json``.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        RunError: the run could not end as planned.
    """
    if data is None:
        raise PlanError("nothing to learn: data is None; accepted: a file, a folder, a Hub name, or rows in memory")
    return change(model, {"learn": data}, output=output, method=method, plan=plan, arguments=arguments)
