"""Tuned weights: a second set of all weights below the head, as differences, in the view of one task.

    W <- W + alpha · delta      while the part acts; a delta begins at zero, and the model's own weights never move

So the model as it was and the model as it was tuned answer side by side, in one version that is twice as large.

Source: the fine-tuned variant of APER, Zhou et al. 2023, arXiv:2303.07338, which keeps both models; the rest is ours.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from palimpsest.method_card import Config
from palimpsest.models.parts import ATTRIBUTE
from palimpsest.models.parts.task_views import TaskPart, TaskPartConfig
from palimpsest.models.places import module_at


class TunedTensor(Config):
    """One weight."""

    at: str = Field(min_length=1)
    """Name of the module that holds it."""
    name: str = Field(min_length=1)
    """Its name in the module."""
    shape: tuple[int, ...]
    """Its shape."""


class TunedWeightsConfig(TaskPartConfig):
    """Options of tuned weights."""

    tensors: tuple[TunedTensor, ...] = Field(min_length=1)
    """The weights that have a difference."""


class TunedWeights(TaskPart):
    """A difference for each weight."""

    Config = TunedWeightsConfig
    kind = "tuned_weights"

    def __init__(self, config: TunedWeightsConfig) -> None:
        super().__init__(config)
        self.delta = nn.ParameterList(nn.Parameter(torch.zeros(one.shape)) for one in config.tensors)

    @classmethod
    def example(cls, at: str, width: int) -> TunedWeightsConfig:
        """The matrix of a linear layer."""
        return TunedWeightsConfig(tensors=(TunedTensor(at=at, name="weight", shape=(width, width)),))

    @property
    def places(self) -> tuple[str, ...]:
        """The modules whose weights they are."""
        return tuple(dict.fromkeys(one.at for one in self.config.tensors))

    def attach(self, model: nn.Module) -> None:
        """Put the tuned weights in their places for every call of a module.

        Raises:
            ModelError: one is not there.
        """
        for place in self.places:
            module = module_at(model, place, "part 'tuned_weights'")
            numbers = [number for number, one in enumerate(self.config.tensors) if one.at == place]
            for number in numbers:
                like: Tensor = getattr(module, self.config.tensors[number].name)
                self.delta[number].data = self.delta[number].data.to(like.device, like.dtype)
            swap = _Swap(self, tuple(numbers))
            self.holds(module.register_forward_pre_hook(swap.begin))
            self.holds(module.register_forward_hook(swap.end, always_call=True))


class _Swap:
    """The weights of one module: tuned from the beginning of a call to its end."""

    def __init__(self, part: TunedWeights, numbers: tuple[int, ...]) -> None:
        self._part, self._numbers = part, numbers
        self._own: dict[str, Any] = {}

    def begin(self, module: nn.Module, _inputs: Any) -> None:
        """Put them in."""
        part = self._part
        for number in () if part.is_off else self._numbers:
            name, delta = part.config.tensors[number].name, part.delta[number]
            own = self._own[name] = module._parameters[name]
            tuned: Any = own + (delta if part.alpha == 1 else part.alpha * delta)
            module._parameters[name] = tuned

    def end(self, module: nn.Module, _inputs: Any, _output: Any) -> None:
        """Take them out again."""
        while self._own:
            name, own = self._own.popitem()
            module._parameters[name] = own


def tuned_tensors(model: nn.Module, head: str) -> tuple[TunedTensor, ...]:
    """All weights of a model but those of its head and of its parts; one that several modules share comes once.

    Args:
        model: a classifier.
        head: name of its head.
    """
    found = []
    for full, weight in model.named_parameters():
        at, _, name = full.rpartition(".")
        if at and at != head and not full.startswith(f"{ATTRIBUTE}."):
            found.append(TunedTensor(at=at, name=name, shape=tuple(weight.shape)))
    return tuple(found)


PART = TunedWeights
