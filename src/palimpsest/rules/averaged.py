"""A running mean of the weights, in their place whenever they are looked at: what ``ema`` and ``smooth`` share.

    a_t = a_{t−1} + w_t (θ_t − a_{t−1})      θ_t the weights after step t

A check sees a_t and the next step goes on from θ_t. Floating-point buffers, as running statistics, are averaged, too.
One more copy of what moves, two while the mean is in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.rules.fast_slow import Snapshot, as_memory, moving, snapshot, under_one_name
from palimpsest.rules.rule import Rule, StepIds

DECIDES = "how the weights of several steps are averaged"
_TAKEN = "taken"


class Averaged(Rule):
    """A rule that averages; what w_t is says who inherits it."""

    place = "watches"

    @property
    def newest(self) -> float:
        """w_t of the step that was just taken, number ``self._taken`` from 1."""
        raise NotImplementedError

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Nothing is averaged yet."""
        self._taken, self._mean, self._beside = 0, Snapshot(), Snapshot()

    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> AbstractContextManager[None]:
        """Take what comes out of the update into the mean."""
        return self._averaged(model)

    @contextmanager
    def _averaged(self, model: nn.Module) -> Iterator[None]:
        yield
        self._taken += 1
        weight = self.newest
        for name, tensor in moving(model).items():
            kept = self._mean.get(name, tensor).to(tensor.device, torch.promote_types(tensor.dtype, torch.float32))
            self._mean[name] = torch.lerp(kept, tensor.to(kept.dtype), weight)

    def settle(self, model: nn.Module) -> None:
        """Put the mean in the place of the weights, and these beside it."""
        if self._taken and not self._beside:
            self._beside = snapshot(model)
            _put(model, self._mean)

    def reopen(self, model: nn.Module) -> None:
        """Put the weights back."""
        if self._beside:
            _put(model, self._beside)
            self._beside = {}

    def state(self) -> Snapshot:
        """The mean, the weights while it is in their place, and how many steps there were."""
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
