"""Options of steps that were given to a run that takes none, or none by them: refused, or said in the result.

What a plan cannot tell, because the stages of the method follow from parts that only the model shows, is told once the
run is prepared, and then it is a note: rows were read and looked at by then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from palimpsest import methods
from palimpsest.engine.plan import Plan, stages_show_late
from palimpsest.errors import PlanError
from palimpsest.loop.training import Training

if TYPE_CHECKING:
    from palimpsest.loop.legs import Leg
    from palimpsest.phases import Stage

_WITHOUT_STEPS = {"seed", "batch_size", "side_batch_size", "micro_batch_size", "checkpoint_steps"}
"""Training options that are not of steps alone."""
_OF_ALL_STAGES = {"max_steps", "max_seconds", "num_train_epochs"}
"""Those that bound the run, whatever a stage says of its own."""


def check_takes_steps(plan: Plan) -> None:
    """Refuse to be told of steps where none is taken by what was said: an edit that no stage of the run's own follows.

    Raises:
        PlanError: names the first such option.
    """
    given = _given(plan)
    if not (methods.card(plan.method).edits and given):
        return
    kind = methods.load(plan.method)  # imports torch
    if stages_show_late(kind) and plan.kind != "unlearn":
        return
    stages = kind(methods.configure(plan.method, plan.options)).stages(dict.fromkeys(plan.files, 1))
    if unused := unused_options(given, stages):
        raise PlanError(f"training.{min(unused)}: method {plan.method!r} {_why(stages)}; leave it out")


def unused_note(plan: Plan, legs: Iterable[Leg]) -> tuple[str, ...]:
    """A note on options of steps that a prepared run does not go by.

    Args:
        plan: of the run.
        legs: of its stages; () where none takes a step.
    """
    stages = [leg.stage for leg in legs]
    if not methods.card(plan.method).edits:
        return ()
    unused = ", ".join(f"training.{name}" for name in sorted(unused_options(_given(plan), stages)))
    return (f"Not used: {unused}. Method {plan.method!r} {_why(stages)}.",) if unused else ()


def unused_options(given: Iterable[str], stages: Iterable[Stage]) -> frozenset[str]:
    """Those of some training options that no stage goes by, because it has them of its own or there is none.

    >>> from palimpsest.phases import Stage
    >>> sorted(unused_options(["learning_rate", "max_steps"], [Stage("align", training={"learning_rate": 0.1})]))
    ['learning_rate']
    """
    stages = tuple(stages)
    return frozenset(
        name
        for name in given
        if not stages or (name not in _OF_ALL_STAGES and all(name in stage.training for stage in stages))
    )


def _given(plan: Plan) -> set[str]:
    """Options of steps that are others than the method's own."""
    usual = Training.model_validate(dict(methods.card(plan.method).defaults))
    own = {name for name in usual.model_fields_set if getattr(usual, name) == getattr(plan.training, name)}
    return plan.training.model_fields_set - own - _WITHOUT_STEPS


def _why(stages: Iterable[Stage]) -> str:
    names = " and ".join(repr(stage.name) for stage in stages)
    if not names:
        return "edits the weights at once and takes no steps with these options"
    return f"takes the steps of its stage {names} by an option of its own here"
