"""A step whose objective is some functions of one vector of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from palimpsest.contract import Phase
from palimpsest.rules.asked import LossSaid, Which, every
from palimpsest.rules.rule import Rule, Setting
from palimpsest.rules.rule_stack import RuleStack

PHASE = Phase("joint", ("forget", "retain"))


class Weights(nn.Module):
    """Weights, and nothing else."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values))


class AskedByHand:
    """Gradients of a loss per set.

    Attributes:
        calls: (sets that counted, aside, backward, weights) of every call.
    """

    def __init__(self, model: Weights, losses: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        self.model, self.losses = model, losses
        self.calls: list[tuple[tuple[str, ...], bool, bool, list[float]]] = []

    def __call__(self, which: Which = every, *, aside: bool = False, backward: bool = True) -> LossSaid:
        chosen = {name: loss for name, loss in self.losses.items() if which(name)}
        self.calls.append((tuple(chosen), aside, backward, self.model.w.tolist()))
        values = {name: loss(self.model.w) for name, loss in chosen.items()}
        if values and backward:
            torch.stack([*values.values()]).sum().backward()
        said = {name: value.item() for name, value in values.items()}
        return LossSaid(sum(said.values()), said)


def gradient_under(ask: AskedByHand, *rules: Rule, phase: Phase = PHASE, sets: Mapping = {}) -> tuple[list, LossSaid]:
    """What a step's gradient is with these rules, and what it said."""
    stack = stacked(ask.model, *rules, sets=sets)
    said = stack.asking(ask.model, phase, ask)()
    stack.transform(ask.model, phase)
    return ask.model.w.grad.tolist(), said


def stacked(model: nn.Module, *rules: Rule, sets: Mapping = {}, seed: int = 0) -> RuleStack:
    """Rules that are ready."""
    stack = RuleStack((), rules, Setting(seed=seed))
    stack.prepare(model, {}, sets)
    return stack
