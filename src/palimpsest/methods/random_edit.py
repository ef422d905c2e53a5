"""Random edit: a control, not a method. Noise of a given size is added to the weights; no data are looked at.

Source: none; the usual control of weight edits (an edit that forgets no better than noise of its size has not aimed).

    θ ← θ + norm · ε / ‖ε‖₂,   ε ~ N(0, I)

Departs from the paper: none.
Official code: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase


class RandomEditConfig(Config):
    """Options of the random edit."""

    norm: float = Field(default=1.0, gt=0)
    """L2 norm of the whole edit, e.g. the distance that the method it is compared with moved the weights."""
    seed: int = Field(default=0, ge=0)
    """Of the noise."""


def unit_noise(parameters: Sequence[Float[Tensor, "..."]], seed: int) -> list[Float[Tensor, "..."]]:
    """Gaussian noise in the shapes of the parameters, together of L2 norm 1.

    >>> noise = unit_noise([torch.zeros(3), torch.zeros(2, 2)], seed=0)
    >>> round(sum(n.pow(2).sum() for n in noise).item(), 5)
    1.0
    """
    generator = torch.Generator().manual_seed(seed)
    noise = [torch.randn(p.shape, generator=generator) for p in parameters]
    norm = torch.stack([n.pow(2).sum() for n in noise]).sum().sqrt()
    return [n / norm for n in noise]


class RandomEdit(Method):
    """Add noise to every trainable parameter, once."""

    Config = RandomEditConfig
    use_when = (
        "you want to see what an edit of that size does without any aim. "
        "Not to forget anything: it is the control beside a method."
    )
    approach = "control"
    yardstick = True
    edits = True

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Add the noise to all that may move."""
        moved = {name: p for name, p in model.named_parameters() if p.requires_grad}
        parameters = list(moved.values())
        with torch.no_grad():
            for parameter, noise in zip(parameters, unit_noise(parameters, self.config.seed), strict=True):
                parameter.add_(self.config.norm * noise.to(parameter.device, parameter.dtype))
        return list(moved)

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """None: an edit takes no steps."""
        return ()


METHOD = RandomEdit
