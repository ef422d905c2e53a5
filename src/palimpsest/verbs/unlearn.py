"""Unlearn what must go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from palimpsest.data.read.layout import Source
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import ForgettingArguments
from palimpsest.verbs.change import change
from palimpsest.verbs.in_memory import Model


def unlearn(
    model: str | Path | Model,
    forget: Source | None = None,
    *,
    output: str | Path | None = None,
    method: str | None = None,
    plan: Mapping[str, Any] | None = None,
    **arguments: Unpack[ForgettingArguments],
) -> RunResult:
    """Make a model forget examples it was trained on.

    Args:
        model: folder, Hub name, or a model in memory (``Model.of``), which is only read unless ``in_place=True``.
        forget: the forget set; or give ``data`` with ``forget_subject``, ``forget_id`` or ``forget_class``.
        output: folder for the new model and its report; must not exist yet. None = nothing stays on the disk: the
            result is a ``Run`` that has the model and can be saved later.
        method: an unlearning method; None = the usual one of the kind of model (``engine/usual.py``).
        plan: sections of the plan, e.g. {"training": {"learning_rate": 1e-3}, "refine": {"ma": 0.6, "el": 0.05}}.
        arguments: the other sets, models and ways: see ``palimpsest.verbs.arguments.ForgettingArguments``.

    Returns:
        The result, as in ``result.json``.

    Raises:
        UsageError, RunError: as ``update``.
    """
    return change(model, {"forget": forget}, output=output, method=method, plan=plan, arguments=arguments)
