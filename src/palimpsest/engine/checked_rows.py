"""Rows that a method can do nothing with are refused before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest import derived, methods
from palimpsest.contract import Method

if TYPE_CHECKING:
    from palimpsest.engine.plan import Plan
    from palimpsest.models.load import Loaded


def check_looked_at(plan: Plan, loaded: Loaded, sets: Mapping[str, Any]) -> None:
    """Ask the method; most look at no row before the run.

    Args:
        plan: resolved.
        loaded: the model before the run.
        sets: encoded.

    Raises:
        UsageError: the method refuses them.
    """
    kind = methods.load(plan.method)
    if kind.check_rows is Method.check_rows:
        return
    made = {name: derived.load(name) for name in derived.of_needs(kind.needs) if derived.load(name).of_rows}
    seed = plan.training.seed
    of_rows = {
        name: one.make(loaded, sets, plan.derived_config(name), seed=seed, folder=Path()).examples
        for name, one in made.items()
    }
    kind(methods.configure(plan.method, plan.options)).check_rows({**sets, **of_rows})
