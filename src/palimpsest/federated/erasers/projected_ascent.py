"""Projected ascent: the client unlearns by itself, climbing its loss inside a ball around the mean of the others.

Source: Halimi, Kadhe, Rawat & Baracaldo 2022, "Federated Unlearning: How to Efficiently Erase a Client in FL?",
arXiv:2207.05521; known from notes on the paper and on IBM's code.

    w_ref = (w_T − p_u w_u) / (1 − p_u)                the others' mean; for p_u = 1/K: (K w_T − w_u) / (K − 1)
    r² = mean_i ‖w_ref − random net i‖² / 3             of 10 nets
    w ← P(w + a ∇L_u(w)),  P: onto ‖w − w_ref‖ ≤ r      SGD 0.01, momentum 0.9, gradient clipped at 5, from w_ref
    then a few rounds of the others, until they are as good as before

The code calls squared distances distances, and projects onto their root: r is therefore not a third of the distance.
Departs from the paper: a random net is the start with the numbers of each tensor in another order (of LoRA, whose B
starts at 0, B stays 0); the climb ends when the client's loss is what it was at the start, before anything was learned,
where the paper ends at an accuracy, and the code at a distance, that are chosen by hand; rounds after it end by a rule.
The client must still be there and do it honestly, which nobody else can see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor

from palimpsest.companions.round_record import Round, Weights
from palimpsest.errors import DataError
from palimpsest.federated.arithmetic import difference, l2_norm
from palimpsest.federated.averaging import averaged_by, weights_after
from palimpsest.federated.erasers.history import kept_of, share_of, staying
from palimpsest.federated.fed_avg import loss_of
from palimpsest.federated.fed_avg_rule import has_stopped
from palimpsest.federated.procedure import Eraser, Errand, Procedure, Rounds
from palimpsest.method_card import Config


def reference_weights(combined: Weights, client: Weights, share: float) -> dict[str, Tensor]:
    """The mean without one of those that it is of: (w_T − p w_u) / (1 − p).

    >>> reference_weights({"w": torch.tensor([2.0])}, {"w": torch.tensor([5.0])}, 0.25)["w"].tolist()
    [1.0]
    """
    return weights_after(combined, difference(combined, client), share / (1 - share))


def another_order(weights: Weights, seed: int) -> dict[str, Tensor]:
    """A random net: of each tensor the same numbers in another order."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor.flatten()[torch.randperm(tensor.numel(), generator=generator)].reshape(tensor.shape)
        for name, tensor in weights.items()
    }


def ball_radius(reference: Weights, random: Iterator[Weights]) -> float:
    """√(mean ‖w_ref − random net‖² / 3).

    >>> nets = [{"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([0.0, 3.0])}]
    >>> round(ball_radius({"w": torch.zeros(2)}, iter(nets)), 6)
    1.732051
    """
    squares = [l2_norm(difference(reference, net)) ** 2 for net in random]
    return math.sqrt(math.fsum(squares) / len(squares) / 3)


def last_with(history: Rounds, client: str) -> Round:
    """The last round that a client took part in.

    Raises:
        DataError: there is none.
    """
    for number in reversed(range(len(history))):
        if client in history[number].told:
            return history[number]
    raise DataError(f"client {client!r} answered in no round; accepted: a client that took part")


class ProjectedAscentConfig(Config):
    """Options of the climb and of what follows it."""

    epochs: float = Field(default=5.0, gt=0)
    """Passes of the climb, at most; 5 in the reference."""
    learning_rate: float = Field(default=0.01, gt=0)
    """a, of plain SGD."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    clip: float = Field(default=5.0, gt=0)
    """Largest L2 norm of a gradient."""
    nets: int = Field(default=10, ge=1)
    """Random nets for the radius of the ball."""
    most_rounds: int = Field(default=10, ge=0)
    """Of the others after the climb."""


class ProjectedAscent(Eraser):
    """Ascent of the client, then rounds of the others."""

    Config = ProjectedAscentConfig
    name = "projected_ascent"
    from_start = False
    source = "Halimi et al. 2022, arXiv:2207.05521"
    use_when = "only the last round is there, and the client itself still answers. Sensitive to its numbers"
    guarantee = "None: the client's loss was driven up near weights that it had moved"
    needs = ("rounds", "gone")

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Climb, then recover."""
        last = last_with(history, gone)
        share = share_of(last.told, gone)
        if share == 1:
            raise DataError(f"client {gone!r} was alone in its last round; accepted: a client beside others")
        local = weights_after(last.weights, last.told[gone].delta)
        reference = reference_weights(averaged_by(last.weights, last.told), local, share)
        told = yield Errand(
            reference, (gone,), self.config.epochs, "ascend", self.settings(history, reference, gone), loss=False
        )
        weights = weights_after(reference, told[gone].delta) if gone in told else reference
        return (yield from self._recovered(weights, history, last, gone))

    def settings(self, history: Rounds, reference: Weights, gone: str) -> dict[str, float]:
        """What the climbing client is told."""
        radius = ball_radius(reference, (another_order(history.start, seed) for seed in range(self.config.nets)))
        numbers = {
            "learning_rate": self.config.learning_rate,
            "momentum": self.config.momentum,
            "clip": self.config.clip,
            "radius": radius,
        }
        first = history[0].told.get(gone)
        known = first is not None and math.isfinite(first.loss)
        return {**numbers, "until": first.loss} if first is not None and known else numbers

    def _recovered(self, weights: Weights, history: Rounds, last: Round, gone: str) -> Procedure:
        """Rounds of the others, until their loss is what it was or falls no more."""
        kept, losses = kept_of(last, gone), list[float]()
        for _ in range(self.config.most_rounds):
            answers = yield Errand(weights, staying(history, gone), history.epochs)
            if not answers:
                break
            losses.append(loss_of(answers))
            if has_stopped(losses) or losses[-1] <= loss_of(kept):
                break
            weights = averaged_by(weights, answers)
        return weights


ERASER = ProjectedAscent
