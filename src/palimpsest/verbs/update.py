"""Learn what is new and unlearn what must go, in one run. ``learn`` and ``unlearn`` are the special cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from palimpsest.data.read.layout import Source
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import ForgettingArguments
from palimpsest.verbs.change import change
from palimpsest.verbs.in_memory import Model


def update(
    model: str | Path | Model,
    *,
    output: str | Path | None = None,
    learn: Source | None = None,
    forget: Source | None = None,
    method: str = "ug_clu",
    plan: Mapping[str, Any] | None = None,
    **arguments: Unpack[ForgettingArguments],
) -> RunResult:
    """Change a model along one trajectory: towards the learn set, away from the forget set, true to the retain set.

    Args:
        model: folder, Hub name, or a model in memory (``Model.of``), which is only read unless ``in_place=True``.
        output: folder for the new model and its report; must not exist yet. None = nothing stays on the disk: the
            result is a ``Run`` that has the model and can be saved later.
        learn: examples to learn.
        forget: examples to unlearn; at least one of the two is given, or ``data`` with what of it must go.
        method: one that does what is asked; see ``palimpsest methods``.
        plan: sections of the plan, e.g. {"training": {"learning_rate": 1e-3}, "refine": {"ma": 0.6, "el": 0.05}}.
        arguments: the other sets, models and ways: see ``palimpsest.verbs.arguments.ForgettingArguments``.

    Returns:
        The result, as in ``result.json``.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        RunError: the run could not end as planned.
    """
    sets = {"learn": learn, "forget": forget}
    return change(model, sets, output=output, method=method, plan=plan, arguments=arguments)
