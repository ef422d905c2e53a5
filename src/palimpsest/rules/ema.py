"""EMA: what is measured and saved is an average of the weights over the steps; training itself goes on beside it.

Source: averaging of iterates, Polyak and Juditsky 1992; as exponential average of a tuned part in LAE, Gao et al. 2023,
arXiv:2303.10070.

    a_t = a_{t−1} + w_t (θ_t − a_{t−1}),   w_t = (1 − decay) / (1 − decay^t)      θ_t the weights after step t

So a_t is Σ_s decay^{t−s} θ_s / Σ_s decay^{t−s}, s = 1 … t: the start has no part in it. A check sees a_t and the next
step goes on from θ_t. Floating-point buffers, as running statistics, are averaged, too. One more copy of what moves,
two while the average is in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.method_card import Config
from palimpsest.rules.fast_slow import Snapshot, as_memory, moving, snapshot, under_one_name
from palimpsest.rules.rule import Rule, StepIds

_TAKEN = "taken"


class EMAConfig(Config):
    """Options of the average."""

    decay: float = Field(default=0.9, ge=0, lt=1)
    """What is kept of the average at every step; over about 1 / (1 − decay) steps it forgets. 0 = the weights."""


def weight_of_newest(decay: float, step: int) -> float:
    """w_t, the part that the weights after step t have in the average.

    >>> weight_of_newest(0.9, 1), round(weight_of_newest(0.5, 2), 4)
    (1.0, 0.6667)
    """
    return (1 - decay) / (1 - decay**step)


class EMA(Rule):
    """An average beside the weights, in their place whenever they are looked at."""

    Config = EMAConfig
    use_when = "the last steps of a run are noise: their average is saved"
    place = "watches"

    @classmethod
    def decides(cls, config: Any) -> str:
        """As ``slow_weights`` does."""
        return "how the weights of several steps are averaged"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Nothing is averaged yet."""
        self._taken, self._mean, self._beside = 0, Snapshot(), Snapshot()

    @contextmanager
    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> Iterator[None]:
        """Take what comes out of the update into the average."""
        yield
        self._taken += 1
        weight = weight_of_newest(self.config.decay, self._taken)
        for name, tensor in moving(model).items():
            kept = self._mean.get(name, tensor).to(tensor.device, torch.promote_types(tensor.dtype, torch.float32))
            self._mean[name] = torch.lerp(kept, tensor.to(kept.dtype), weight)

    def settle(self, model: nn.Module) -> None:
        """Put the average in the place of the weights, and these beside it."""
        if self._taken and not self._beside:
            self._beside = snapshot(model)
            _put(model, self._mean)

    def reopen(self, model: nn.Module) -> None:
        """Put the weights back."""
        if self._beside:
            _put(model, self._beside)
            self._beside = {}

    def state(self) -> Snapshot:
        """The average, the weights while it is in their place, and how many steps there were."""
        kept = under_one_name({"mean": self._mean, "beside": self._beside})
        return {**kept, f"{_TAKEN}/steps": torch.tensor(self._taken)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        parts = as_memory(state)
        self._mean, self._beside = parts.get("mean", {}), parts.get("beside", {})
        self._taken = int(parts[_TAKEN]["steps"]) if _TAKEN in parts else 0


def _put(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, tensor in moving(model).items():
        tensor.copy_(values[name])


RULE = EMA
