"""Learn new data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from palimpsest.data.layout import Source
from palimpsest.errors import PlanError
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import Arguments
from palimpsest.verbs.update import update


def learn(
    model: str | Path,
    data: Source,
    *,
    output: str | Path,
    method: str = "finetune",
    plan: Mapping[str, Any] | None = None,
    **arguments: Unpack[Arguments],
) -> RunResult:
    """Teach a model new examples.

    Args:
        model: folder or Hub name.
        data: the learn set.
        output: folder for the new model and its report; must not exist yet.
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
    return update(model, learn=data, output=output, method=method, plan=plan, **arguments)
