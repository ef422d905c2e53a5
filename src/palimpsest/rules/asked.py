"""The gradients of a step, as a rule may ask for them: of some terms alone, elsewhere, without them.

    ask()                     gradients of the whole loss are added to those at hand; the plain step
    ask(which)                only of the terms that are summed over sets for which ``which`` holds
    ask(aside=True)           running statistics and random numbers are afterwards as they were before
    ask(backward=False)       the value alone

A rule that wraps it (``Rule.asking``) answers what a step gets in the place of the plain gradients. All calls of one
step see the same batches; of those that a wrapped call makes exactly one is not aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from palimpsest.contract import Phase
from palimpsest.data.sets.roles import role_of
from palimpsest.models.scope import trainable

Which = Callable[[str], bool]
"""Of the name of a set: do the terms over it count?"""
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class LossSaid:
    """What the terms came to.

    Attributes:
        loss: their weighted sum.
        terms: mean of each over its unit, before weighting.
    """

    loss: float
    terms: Mapping[str, float]

    def __add__(self, other: LossSaid) -> LossSaid:
        return LossSaid(self.loss + other.loss, {**self.terms, **other.terms})


class AskGradients(Protocol):
    """See the top of this file."""

    def __call__(self, which: Which = ..., *, aside: bool = False, backward: bool = True) -> LossSaid:
        """Value and, unless ``backward`` is False, gradients of the terms over such sets."""


def every(name: str) -> bool:
    """All sets."""
    return True


def forgets(name: str) -> bool:
    """Is a set there to be forgotten, or for what is said instead: is it none of those that stay or are rehearsed?

    >>> [name for name in ("forget", "refusal", "retain", "replay", "analogous") if forgets(name)]
    ['forget', 'refusal']
    """
    return not role_of(name).stays and name != "replay"


def both(one: Which, other: Which) -> Which:
    """Sets of which two things hold."""
    return lambda name: one(name) and other(name)


def stays(name: str) -> bool:
    """The opposite of ``forgets``."""
    return not forgets(name)


def forgets_in(phase: Phase) -> bool:
    """Does a phase take a step that forgets?"""
    return any(forgets(name) for name in phase.sets)


def taken(model: nn.Module) -> Gradients:
    """The gradients at hand, by parameter name; the model is left without any."""
    found = {name: p.grad for name, p in trainable(model).items() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def given(model: nn.Module, gradients: Mapping[str, Tensor], factor: float = 1.0) -> None:
    """Add gradients, times a factor, to those at hand."""
    for name, parameter in trainable(model).items():
        if name in gradients:
            more = gradients[name] if factor == 1.0 else gradients[name] * factor
            parameter.grad = more if parameter.grad is None else parameter.grad.add_(more)


@contextmanager
def moved_by(model: nn.Module, step: Callable[[str, nn.Parameter], Tensor | None]) -> Iterator[None]:
    """Weights that are elsewhere in the block, and bit for bit back after it.

    Args:
        model: whose weights that may move are moved; one copy of them is kept.
        step: of a parameter's name and the parameter, what is added to it; None = nothing.
    """
    kept = {name: parameter.detach().clone() for name, parameter in trainable(model).items()}
    try:
        with torch.no_grad():
            for name, parameter in trainable(model).items():
                if (more := step(name, parameter)) is not None:
                    parameter.add_(more)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in trainable(model).items():
                parameter.copy_(kept[name])
