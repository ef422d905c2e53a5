"""Noise as large as what the client brought in. A control: an edit that forgets no better has not aimed.

Source: none; the usual control of weight edits.

    w̃ = w_T + ‖c‖ ε / ‖ε‖,   ε ~ N(0, I),   c = Σ_j p_u^j U_u^j
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from palimpsest.companions.round_record import Weights
from palimpsest.federated.arithmetic import l2_norm
from palimpsest.federated.averaging import weights_after
from palimpsest.federated.erasers.history import contribution, without_asking
from palimpsest.federated.procedure import Eraser, Procedure, Rounds
from palimpsest.method_card import Config


def gaussian_like(weights: Weights, seed: int) -> dict[str, Tensor]:
    """Standard normal numbers in the shapes of the weights, drawn on the CPU in the order of their names.

    >>> one, other = (gaussian_like({"w": torch.zeros(3)}, seed)["w"] for seed in (0, 1))
    >>> one.shape == other.shape, bool((one == other).any())
    (True, False)
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(weights[name].shape, generator=generator) for name in sorted(weights)}
    return {name: drawn[name] for name in weights}


class ClientNoiseConfig(Config):
    """Options of the noise."""

    seed: int = Field(default=0, ge=0)
    """Of the noise."""


class ClientNoise(Eraser):
    """A random step of that length."""

    Config = ClientNoiseConfig
    name = "client_noise"
    from_start = False
    source = "none: a control"
    use_when = "you want to see what an edit of that size does without any aim. Not to erase"
    guarantee = "None: it is not aimed at the client"

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Ask nobody."""
        noise, size = gaussian_like(history.final, self.config.seed), l2_norm(contribution(history, gone))
        return without_asking(weights_after(history.final, noise, size / l2_norm(noise)))


ERASER = ClientNoise
