"""The legs of a run: the stages that a method names, each with its anchor and its training options, checked.

At fixed rates the legs follow each other. A run under control goes through the distinct ones in turn, an iteration of
each; what they plan of length and rate it finds itself, and their optimizer is one (decision 0014).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from palimpsest.contract import ExampleSet, Method, Stage
from palimpsest.errors import PlanError, unknown
from palimpsest.loop.editing import has_edit
from palimpsest.loop.training import Training
from palimpsest.models.scope import trainable

FACTOR = "factor"  # key of an optimizer's group: times the learning rate
REPAIR = "repair"  # name of a stage that a controlled run leaves to its own repair
OF_THE_RUN = ("seed", "max_seconds", "checkpoint_steps")  # no stage has one of its own
OF_THE_OPTIMIZER = ("momentum", "betas", "weight_decay")
KINDS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
_SHOWN = 5  # names in an error


@dataclass(frozen=True)
class Leg:
    """A stage as the loop goes through it.

    Attributes:
        stage: as the method named it.
        anchor: the set whose passes are its epochs.
        training: the run's, with what the stage has otherwise.
    """

    stage: Stage
    anchor: str
    training: Training

    def can_use(self, optimizer: torch.optim.Optimizer) -> bool:
        """Is this the kind of optimizer that it wants?"""
        return isinstance(optimizer, KINDS[self.training.optimizer])


def legs_of(method: Method, model: nn.Module, sets: Mapping[str, ExampleSet], training: Training) -> tuple[Leg, ...]:
    """The stages of a method, resolved.

    Args:
        method: prepared.
        model: with the scope applied.
        sets: that the method draws from.
        training: of the run.

    Raises:
        PlanError: a stage wants what is not there; says which, and what there is.
    """
    if has_edit(method) and not method.edits:
        raise PlanError(
            f"{type(method).__name__} defines `edit` and takes steps as well; set `edits = True` in its class"
        )
    method.planned_epochs = training.num_train_epochs
    stages = tuple(method.stages({name: len(examples) for name, examples in sets.items()}))
    first = method.draws_from(sets)[0]
    names = list(trainable(model))
    for stage in stages:
        _check_sets(stage, sets, method.paired)
        _check_names(stage, names)
    legs = tuple(Leg(s, s.anchor or first, training_in(s, training, alone=len(stages) == 1)) for s in stages)
    for leg, following in itertools.pairwise(legs):
        if not following.stage.fresh and following.training.optimizer != leg.training.optimizer:
            raise PlanError(
                f"stage {following.stage.name!r} goes on with the moments of {leg.training.optimizer!r} and wants "
                f"{following.training.optimizer!r}; give it a fresh optimizer"
            )
    return legs


def training_in(stage: Stage, training: Training, *, alone: bool) -> Training:
    """The run's training options with those of a stage.

    Args:
        stage: may have a length and options of its own.
        training: of the run; its ``max_steps`` bounds all stages together.
        alone: is it the only stage? Its length is the run's then, unless it names one.

    Raises:
        PlanError: an option that there is not, that only the run has, or a value out of range.
    """
    own = _own_training(stage, alone=alone)
    if not own:
        return training
    accepted = [option for option in Training.model_fields if option not in OF_THE_RUN]
    for name in own:
        if name not in accepted:
            raise PlanError(f"stage {stage.name!r}: {unknown('training option of a stage', name, accepted)}")
    try:
        return Training.model_validate({**training.model_dump(), **own})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise PlanError(f"stage {stage.name!r}: {place} = {first['input']!r}: {first['msg']}") from None


def _own_training(stage: Stage, *, alone: bool) -> dict[str, Any]:
    """What of the training options is the stage's own; ``max_steps`` of the run is that of a stage alone."""
    own: dict[str, Any] = {} if alone and stage.epochs is None else {"max_steps": None}
    own |= {} if stage.epochs is None else {"num_train_epochs": stage.epochs}
    return {**own, **stage.training}


def in_turn(legs: Sequence[Leg]) -> tuple[Leg, ...]:
    """The legs that a controlled run goes through in turn: each once, without repair where there is anything else.

    Raises:
        PlanError: they want optimizers of two kinds.
    """
    found: list[Leg] = []
    for leg in [leg for leg in legs if leg.stage.name != REPAIR] or legs:
        if not any(_work_of(leg) == _work_of(other) for other in found):
            found.append(leg)
    kinds = sorted({leg.training.optimizer for leg in found})
    if len(kinds) > 1:
        raise PlanError(
            f"the stages want {' and '.join(kinds)}, and a run that finds its own rate has one optimizer; "
            "give a rate (--lr), or stages with one"
        )
    return tuple(found)


def takes_steps(method: Method, legs: Sequence[Leg], planned: int = 1) -> bool:
    """Is there anything but an edit?"""
    return len(legs) > 1 or (bool(legs) and bool(legs[0].stage.phases or method.phases(0, planned)))


def regroup(optimizer: torch.optim.Optimizer, model: nn.Module, leg: Leg) -> None:
    """Give an optimizer the groups of a leg: one for each factor of the rate; what it remembers stays.

    Args:
        optimizer: over exactly the trainable parameters.
        model: whose they are.
        leg: its rates, and what else it wants of an optimizer.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in trainable(model).items():
        groups.setdefault(factor_of(name, leg.stage.rates), []).append(parameter)
    options = {key: value for key, value in optimizer.param_groups[0].items() if key not in ("params", FACTOR)}
    options |= {key: getattr(leg.training, key) for key in OF_THE_OPTIMIZER if key in options}
    optimizer.param_groups = [{**options, "params": moved, FACTOR: factor} for factor, moved in groups.items()]


def factor_of(name: str, rates: Mapping[str, float]) -> float:
    """Of the learning rate of a parameter: that of the first expression that is found in its name, else 1.

    >>> factor_of("head.weight", {"bias": 2.0, "head": 0.1}), factor_of("body.weight", {"head": 0.1})
    (0.1, 1.0)
    """
    return next((float(factor) for pattern, factor in rates.items() if re.search(pattern, name)), 1.0)


@contextmanager
def only_moving(model: nn.Module, patterns: Sequence[str]) -> Iterator[None]:
    """Freeze what no pattern is found in, for the block; all stays as it is without patterns."""
    frozen = [] if not patterns else [p for name, p in trainable(model).items() if not _found(name, patterns)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def named_stages(stages: Iterable[Stage]) -> str:
    """Their names in order; one that comes again and again once, with its number.

    >>> named_stages([Stage("max"), Stage("min"), Stage("max"), Stage("min"), Stage("min")])
    'max ×2, min ×3'
    """
    names = [stage.name for stage in stages]
    counts = {name: names.count(name) for name in names}
    return ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in counts.items())


def told_of_turns(reason: str, legs: Sequence[Leg]) -> str:
    """How a controlled run ended, with the stages that took turns in it, where there were several."""
    return reason if len(legs) < 2 else f"{reason} ({named_stages(leg.stage for leg in legs)} in turn)"


def _work_of(leg: Leg) -> tuple[Any, ...]:
    """What makes two legs the same work: all but name, length and whether the optimizer is fresh."""
    stage = replace(leg.stage, name="", epochs=None, fresh=True)
    return (leg.anchor, stage.phases, stage.moves, dict(stage.rates), dict(stage.training))


def _found(name: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _check_sets(stage: Stage, sets: Mapping[str, ExampleSet], paired: Mapping[str, str]) -> None:
    drawn = {name for phase in stage.phases or () for name in phase.sets}
    for name in sorted({*drawn, *((stage.anchor,) if stage.anchor else ())} - set(sets)):
        raise PlanError(
            f"stage {stage.name!r} needs the set {name!r}: not given, or not drawn by the method; "
            f"at hand: {', '.join(sets)}"
        )
    if stage.anchor in paired:
        raise PlanError(f"stage {stage.name!r} goes over {stage.anchor!r}, whose examples are partners of others")


def _check_names(stage: Stage, names: Sequence[str]) -> None:
    for what, patterns in (("moves", stage.moves), ("rates", tuple(stage.rates))):
        for pattern in patterns:
            try:
                found = any(_found(name, (pattern,)) for name in names)
            except re.error as error:
                raise PlanError(f"stage {stage.name!r}: {what} {pattern!r} is no regular expression: {error}") from None
            if not found:
                raise PlanError(
                    f"stage {stage.name!r}: {what} {pattern!r} is found in no parameter that may move; the first ones "
                    f"are {', '.join(names[:_SHOWN])}"
                )
    for pattern, factor in stage.rates.items():
        if not (math.isfinite(factor) and factor > 0):
            raise PlanError(f"stage {stage.name!r}: rates {pattern!r} is {factor!r}; accepted: a number above 0")
