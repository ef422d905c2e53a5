"""FedEraser: go the stored way again without the client, each step as long as it was and in a direction of today.

Source: Liu, Ma, Yang, Wang & Liu 2021, "FedEraser: Enabling Efficient Client-Level Data Removal from Federated Learning
Models", IWQoS; known from notes on the paper and on its code.

    w̃ ← w₀ + Σ_{k≠u} p_k U_k^0                                   round 0 began at w₀ itself: nothing to calibrate
    for stored rounds j = dt, 2 dt, …:
        Û_k = what client k learns from w̃ in ⌈r E⌉ epochs         the direction of today
        w̃ ← w̃ + Σ_{k≠u} p_k ‖U_k^j‖ Û_k / ‖Û_k‖                  "per_client", as in the paper
        w̃ ← w̃ + ‖Σ p_k U_k^j‖ · Σ p_k Û_k / ‖Σ p_k Û_k‖           "averaged", as in the code

Σ p_k stands for the rule that the federation learned by: where that was a median, a trimmed mean, Krum or a noisy mean,
it is that. The norms are of each tensor by itself. p_k are the shares of the examples among those who answered. A
tensor that did not move, then or now, stays where it is: its direction is not known. A client that was absent in a
round is not asked in it. Departs from the paper: shares by examples, where the paper divides by K − 1 besides.

Beyond the paper: where the others' loss is then more than 0.02 nats above what they said in the last stored round, they
learn a few rounds more, at most a tenth as many as were stored: what a direction of half the epochs left unlearned.

It forgets approximately: no U_u^j is used, but the lengths ‖U_k^j‖ of the others were learned beside that client.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from palimpsest.companions.round_record import Replies, Round, Weights
from palimpsest.federated.averaging import mean_delta, weights_after
from palimpsest.federated.erasers.history import joint_change, kept_of, staying
from palimpsest.federated.fed_avg import loss_of
from palimpsest.federated.procedure import Eraser, Errand, Procedure, Rounds
from palimpsest.method_card import Config

Norms = Literal["per_client", "averaged"]
JointChange = Callable[[Replies], dict[str, Tensor]]


def calibration_epochs(epochs: float, ratio: float) -> int:
    """⌈r E⌉: how long a client trains for a direction.

    >>> [calibration_epochs(epochs, 0.5) for epochs in (10, 2, 1, 0.2)]
    [5, 1, 1, 1]
    """
    return math.ceil(ratio * epochs)


def as_long_as(stored: Float[Tensor, "..."], fresh: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """‖U‖ Û / ‖Û‖; zero where Û is.

    >>> as_long_as(torch.tensor([0.0, 5.0]), torch.tensor([6.0, 8.0])).tolist()
    [3.0, 4.0]
    """
    length = fresh.double().norm()
    if not bool(length > 0):
        return torch.zeros_like(fresh)
    factor = float(stored.double().norm() / length)
    return (fresh.double() * factor).to(fresh.dtype)


def calibrated_update(stored: Weights, fresh: Weights) -> dict[str, Tensor]:
    """The same of every tensor of an update."""
    return {name: as_long_as(stored[name], tensor) for name, tensor in fresh.items()}


def calibrated_step(
    stored: Replies, fresh: Replies, norms: Norms = "per_client", change: JointChange = mean_delta
) -> dict[str, Tensor]:
    """One step of the unlearned model.

    Args:
        stored: client -> its answer in the stored round.
        fresh: client -> what it learns from the unlearned model; at least one, and nobody else.
        norms: which lengths are kept, each client's or that of their mean.
        change: what answers change together.
    """
    if norms == "averaged":
        return calibrated_update(change({client: stored[client] for client in fresh}), change(fresh))
    long = {client: calibrated_update(stored[client].delta, told.delta) for client, told in fresh.items()}
    return change({client: told._replace(delta=long[client]) for client, told in fresh.items()})


def loss_before(history: Rounds, who: Collection[str]) -> float:
    """Mean loss that some clients said in the last round, by their rows; NaN where they said none."""
    told = history[len(history) - 1].told if len(history) else {}
    kept = {client: told[client] for client in sorted(told) if client in who}
    return loss_of(kept) if kept else math.nan


class FedEraserConfig(Config):
    """Options of the calibrated replay."""

    interval: int = Field(default=1, ge=1)
    """dt: every how many-th stored round is used; more is faster and goes less far."""
    ratio: float = Field(default=0.5, gt=0, le=1)
    """r: epochs of calibration for an epoch of learning; 0.5 in the reference."""
    norms: Norms = "per_client"
    """Whose lengths are kept: per_client as in the paper, averaged as in the code."""
    after: float = Field(default=0.1, ge=0, le=1)
    """Most rounds after the replay, for each that was stored; 0 as in the paper."""
    slack: float = Field(default=0.02, ge=0)
    """Nats by which the others' loss may be above that of before."""


class FedEraser(Eraser):
    """Calibrated replay."""

    Config = FedEraserConfig
    name = "fed_eraser"
    source = "Liu et al. 2021, FedEraser, IWQoS"
    use_when = "rounds were recorded and the others still answer: near retraining, for about half of its time"
    guarantee = "None: no update of the client is used, but the lengths of the others' were learned beside it"
    any_rule = True

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Replay from the start, with directions asked of the clients that stay."""
        weights: Weights = dict(history.start)
        for number in range(0, len(history), self.config.interval):
            stored = history[number]
            weights = yield from self._replayed(weights, stored, kept_of(stored, gone), history)
        return (yield from self._finished(weights, history, staying(history, gone)))

    def _finished(self, weights: Weights, history: Rounds, who: tuple[str, ...]) -> Procedure:
        """Further rounds, while the others are worse off than they were."""
        wanted = loss_before(history, who) + self.config.slack
        for _ in range(math.floor(self.config.after * len(history))):
            said = yield Errand(weights, who, 0.0)
            if not said or not loss_of(said) > wanted:  # also where one of them is not known
                break
            weights = history.combine(weights, (yield Errand(weights, who, history.epochs, loss=False)))
        return weights

    def _replayed(self, weights: Weights, stored: Round, kept: Replies, history: Rounds) -> Procedure:
        """One stored round."""
        if not kept:
            return weights
        if not stored.number:
            return history.combine(weights, (yield Errand(weights, tuple(kept), history.epochs, known=kept)))
        told = yield Errand(weights, tuple(kept), calibration_epochs(history.epochs, self.config.ratio), loss=False)
        fresh = {client: answer for client, answer in told.items() if client in kept}
        if not fresh:
            return weights
        step = calibrated_step(kept, fresh, self.config.norms, partial(joint_change, history))
        return weights_after(weights, step)


ERASER = FedEraser
