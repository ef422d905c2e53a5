"""Who chooses the rate and length of a run: the run itself, a number that was given, or what a paper published.

    control.kind = auto   the run finds its rate and ends at its level (``control/``)
    control.kind = none   rate and length are those of the plan, the method's own where none was given

"auto" is the default but for: a number that fixes the rate (``FIXES_THE_RATE``), ``refine``, a method that edits, and
one with a schedule of its own. Sections are those of a plan, name -> option -> value; nothing given is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.method_card import MethodCard
from palimpsest.models.families import Family

PRESETS = ("paper",)
FIXES_THE_RATE = ("learning_rate", "lr_scheduler_type", "halving_steps", "warmup_steps")


def resolved_control(values: Mapping[str, Any], method: MethodCard) -> dict[str, Any]:
    """The control section with its kind decided: a run finds its rate unless one is given or the method has its own.

    Args:
        values: sections of the plan, as the user gave them.
        method: of the run.

    Returns:
        Option -> value; with "auto" also the passes that ``training.num_train_epochs`` allows.

    Raises:
        PlanError: control is asked for beside what it would choose, or by a method that it cannot control.
    """
    training = values.get("training", {})
    given = values.get("control", {})
    chosen = dict(given) if isinstance(given, Mapping) else given.model_dump(exclude_unset=True)
    fixed = [f"training.{name}" for name in FIXES_THE_RATE if name in training]
    fixed += ["refine"] if values.get("refine") is not None else []
    if chosen.get("kind") == "auto":
        _check_searchable(method, fixed)
    chosen.setdefault("kind", "none" if any((fixed, method.edits, method.own_schedule)) else "auto")
    if chosen["kind"] == "auto" and "num_train_epochs" in training:
        chosen.setdefault("epochs", training["num_train_epochs"])
    return chosen


def _check_searchable(method: MethodCard, fixed: Sequence[str]) -> None:
    """Refuse a run that is told to find its rate and cannot.

    Raises:
        PlanError: something fixes it, or there are no steps.
    """
    if fixed:
        raise PlanError(
            f"control.kind = auto beside {fixed[0]}: the run would choose that itself; leave one of the two out"
        )
    if method.edits:
        raise PlanError(
            f"control.kind = auto: method {method.name!r} takes no steps whose rate could be found; leave it out"
        )


def for_control(values: Mapping[str, Any], method: MethodCard, family: Family) -> dict[str, Any]:
    """Sections of a run that finds its own rate, with the defaults of its family under what was given.

    Args:
        values: sections of the plan.
        method: of the run.
        family: of the model; says how many rows a step has, and options of the method that fit so many.

    Returns:
        All sections; the schedule is constant, because control moves the rate.
    """
    training = {**values.get("training", {}), "lr_scheduler_type": "constant"}
    if family.step_rows is None:
        return {**values, "training": training}
    options = {**family.options_of(method), **values.get("options", {})}
    repair = {"rows": family.step_rows, **values.get("repair", {})}
    return {**values, "training": {"batch_size": family.step_rows, **training}, "options": options, "repair": repair}


def preset(name: str, method: str, sections: Mapping[str, Any]) -> dict[str, Any]:
    """The control section of a preset: "paper" is the fixed rate and length that the method's authors published.

    Args:
        name: one of ``PRESETS``.
        method: of the run.
        sections: beside it.

    Raises:
        PlanError: nothing was published for the method, or control is asked for as well.
    """
    able = [n for n in methods.names() if "learning_rate" in methods.card(n).defaults]
    if method not in able:
        listed = ", ".join(able)
        raise PlanError(f"method {method!r} has no preset {name!r}: no rate was published for it; with one: {listed}")
    if sections.get("control", {}).get("kind") == "auto":
        raise PlanError(f"preset {name!r} beside control.kind = auto: a published rate is not searched; leave one out")
    return {"kind": "none"}
