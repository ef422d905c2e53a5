"""FedRecovery: take a weighted mean of the client's residuals off, and add Gaussian noise.

Source: Zhang, Zhu, Zhang, Xiong & Zhou 2023, "FedRecovery: Differentially Private Machine Unlearning for Federated
Learning Frameworks", IEEE TIFS 18; known second-hand, from notes on its algorithm 2.

    δ_j = Σ_k p_k U_k^j − Σ_{k≠u} p'_k U_k^j           round j with the client less round j without; p' over the others
    q_j = ‖Σ_k p_k U_k^j‖² / Σ_i ‖Σ_k p_k U_k^i‖²        weights of the rounds, that add up to 1
    w̄ = w_T − Σ_j q_j δ_j
    w̃ = w̄ + N(0, σ² I),   σ = d / (√2 (√(ε + ln 1/δ) − √(ln 1/δ)))

What is guaranteed: let v be the weights of retraining from the same start without the client, and d ≥ ‖w̄ − v‖. Then for
every set S of weights P[w̃ ∈ S] ≤ e^ε P[v + N(0, σ² I) ∈ S] + δ, and the reverse: two Gaussians at a distance of at most
d are (ε, δ)-indistinguishable (zero-concentrated privacy of d²/2σ², converted).

What is assumed. That d is such a bound. Nobody can know it without retraining: the paper derives one from constants of
the loss (smoothness, largest gradient, best value) that networks do not give away. The default here is

    d = ‖w̄ − w₀‖ + ‖w_T − w₀‖     a bound if retraining moves no further from w₀ than learning with the client did

The paper's residuals are gradients, one step of each client in a round; answers of several epochs are not. That takes
nothing from the guarantee, which is about d, but w̄ is nearer to v only where it holds. And that the noise is secret: it
is drawn (Philox, 128 bits) by the key of the owner of the model; doubles are no real numbers, which is left aside.

What it is not. It is no privacy of the training, nothing about earlier versions, other clients' answers or anything
else that was seen; it compares with a retrained model that has *the same noise added*, which may be as useless as this
one: σ is of the order of d in every coordinate, while d is the length of all coordinates together. And without the
noise it is next to nothing: the weights q_j add up to 1, so that w̄ differs from w_T by less than one round's residual.

Departs from the paper: updates where it has gradients times the step size, shares by examples, and the default d.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palimpsest.companions.marks import own_key
from palimpsest.companions.round_record import Round, Weights
from palimpsest.errors import PlanError
from palimpsest.federated.arithmetic import difference, l2_norm
from palimpsest.federated.averaging import mean_delta, weights_after
from palimpsest.federated.erasers.history import kept_of, rounds_of, without_asking
from palimpsest.federated.procedure import Eraser, Procedure, Rounds
from palimpsest.method_card import Config
from palimpsest.models.scope import tensor_digest


def noise_deviation(distance: float, epsilon: float, delta: float) -> float:
    """σ that makes two Gaussians at such a distance (ε, δ)-indistinguishable.

    Source: Bun & Steinke 2016, arXiv:1605.02026, lemmas 2.4 and 3.5: ρ = d²/2σ² gives ε = ρ + 2 √(ρ ln 1/δ).

    Args:
        distance: d, of the means.
        epsilon: > 0.
        delta: in (0, 1).

    >>> round(noise_deviation(1.0, 0.1, 1e-5), 2)
    48.09
    """
    log = math.log(1 / delta)
    return distance / (math.sqrt(2) * (math.sqrt(epsilon + log) - math.sqrt(log)))


def epsilon_of(distance: float, deviation: float, delta: float) -> float:
    """ε that a given noise buys; infinite of none.

    >>> round(epsilon_of(1.0, noise_deviation(1.0, 0.1, 1e-5), 1e-5), 9)
    0.1
    """
    if not deviation:
        return math.inf if distance else 0.0
    rho = distance**2 / (2 * deviation**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def residual(stored: Round, gone: str) -> dict[str, Tensor]:
    """δ_j: the mean update with a client less the mean without; zero where it was absent, or alone."""
    kept = kept_of(stored, gone)
    if gone not in stored.told or not kept:
        return {name: torch.zeros_like(tensor) for name, tensor in stored.weights.items()}
    return difference(mean_delta(stored.told), mean_delta(kept))


def weights_of_rounds(norms: Sequence[float]) -> list[float]:
    """q_j ∝ ‖·‖²; alike where nothing moved in any round.

    >>> weights_of_rounds([1.0, 2.0]), weights_of_rounds([0.0, 0.0])
    ([0.2, 0.8], [0.5, 0.5])
    """
    total = math.fsum(norm**2 for norm in norms)
    return [norm**2 / total if total else 1 / len(norms) for norm in norms]


def recovered_weights(history: Rounds, gone: str) -> dict[str, Tensor]:
    """w̄: the last weights less the weighted residuals."""
    moving = [stored for stored in rounds_of(history) if stored.told]
    shares = weights_of_rounds([l2_norm(mean_delta(stored.told)) for stored in moving])
    weights = dict(history.final)
    for share, stored in zip(shares, moving, strict=True):
        weights = weights_after(weights, residual(stored, gone), -share)
    return weights


def assumed_distance(history: Rounds, recovered: Weights) -> float:
    """‖w̄ − w₀‖ + ‖w_T − w₀‖."""
    return sum(l2_norm(difference(weights, history.start)) for weights in (recovered, history.final))


def secret_noise(weights: Weights, key: int) -> dict[str, Tensor]:
    """Standard normal numbers in the shapes of the weights, by a key of up to 128 bits."""
    drawn = np.random.Generator(np.random.Philox(key=key))
    return {name: torch.from_numpy(drawn.standard_normal(tuple(at.shape))).float() for name, at in weights.items()}


class FedRecoveryConfig(Config):
    """Options of the guarantee and of its noise."""

    epsilon: float = Field(default=1.0, gt=0)
    """Of the guarantee."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    """Of the guarantee."""
    distance: float | None = Field(default=None, gt=0)
    """d, the furthest that retraining may be from what came out; None = by the assumption of the file."""
    deviation: float | None = Field(default=None, ge=0)
    """σ itself; None = what the guarantee takes. 0 = no noise, and no guarantee."""
    seed: int | None = Field(default=None, ge=0)
    """Of the noise; None = by the owner's key. Who knows it can take the noise off."""


class FedRecovery(Eraser):
    """Weighted residuals off, noise on."""

    Config = FedRecoveryConfig
    name = "fed_recovery"
    source = "Zhang et al. 2023, FedRecovery, IEEE TIFS 18"
    use_when = "a statement of indistinguishability is wanted, whatever it costs. Networks do not survive its noise"
    guarantee = (
        "Indistinguishable at epsilon 1, delta 1e-5 from retraining with the same noise added, if retraining moves no "
        "further from the start than learning did"
    )

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Ask nobody."""
        weights = recovered_weights(history, gone)
        deviation = self._deviation(history, weights)
        if not deviation:
            return without_asking(weights)
        return without_asking(weights_after(weights, secret_noise(weights, self._key(history, gone)), deviation))

    def promise(self) -> str:
        """With the ε, δ, d or σ that were given."""
        config = self.config
        if config.deviation == 0:
            return "None: no noise was added"
        if config.deviation is not None:
            return f"None that can be stated: noise of the given deviation {config.deviation:g} was added"
        bound = "no further from the start than learning did"
        within = "" if config.distance is None else f"to within {config.distance:g} of what came out"
        return (
            f"Indistinguishable at epsilon {config.epsilon:g}, delta {config.delta:g} from retraining with the same "
            f"noise added, if retraining moves {within or bound}"
        )

    def _deviation(self, history: Rounds, recovered: Weights) -> float:
        if self.config.deviation is not None:
            return float(self.config.deviation)
        distance = assumed_distance(history, recovered) if self.config.distance is None else self.config.distance
        return noise_deviation(distance, self.config.epsilon, self.config.delta)

    def _key(self, history: Rounds, gone: str) -> int:
        """Of the noise: another one for every client and history.

        Raises:
            PlanError: this user has no key.
        """
        if self.config.seed is not None:
            return int(self.config.seed)
        key = own_key()
        if key is None:
            raise PlanError(
                "fed_recovery draws secret noise by the owner's key, and there is none; set PALIMPSEST_KEY_FILE to a "
                "file that can be written"
            )
        which = "\0".join([self.name, gone, *(tensor_digest(tensor) for tensor in history.final.values())])
        return int(key.seal(which), 16)


ERASER = FedRecovery
