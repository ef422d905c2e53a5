"""Low-rank adapters as a part: what PEFT trained, beside the weights and in one list with other parts.

    y <- y + alpha · scale · B (A x)        at every adapted linear layer y = W x + b;  scale = lora_alpha / rank

Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", ICLR, section 4.1. The sums are PEFT's in
PEFT's order, so at alpha = 1 the logits are the same bits as those of the model that was trained.

Shape legend: D width in, E width out, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.method_card import Config
from palimpsest.models.parts import attach, detach
from palimpsest.models.parts.part import Part
from palimpsest.models.places import module_at

_ADAPTER = "default"


class AdaptedLayer(Config):
    """One adapted layer."""

    at: str = Field(min_length=1)
    """Name of the linear layer."""
    width_in: int = Field(ge=1)
    """Numbers that enter it."""
    width_out: int = Field(ge=1)
    """Numbers that leave it."""
    rank: int = Field(ge=1)
    """Numbers between A and B."""
    scale: float
    """Factor of B A; lora_alpha / rank."""


class LoraConfig(Config):
    """Options of an adapter."""

    layers: tuple[AdaptedLayer, ...] = Field(min_length=1)
    """The layers it adapts."""


def low_rank_change(
    x: Float[Tensor, "... D"], down_RD: Float[Tensor, "R D"], up_ER: Float[Tensor, "E R"], scale: float
) -> Float[Tensor, "... E"]:
    """Scale · B (A x).

    >>> low_rank_change(torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0], [0.0]]), 0.5)
    tensor([3., 0.])
    """
    return F.linear(F.linear(x, down_RD), up_ER) * scale


class Lora(Part):
    """Adapters on linear layers."""

    Config = LoraConfig
    kind = "lora"
    folds_when_saved = False  # who wanted it merged would have said so

    def __init__(self, config: LoraConfig) -> None:
        super().__init__(config)
        layers = config.layers
        self.down = nn.ParameterList(nn.Parameter(torch.zeros(one.rank, one.width_in)) for one in layers)
        self.up = nn.ParameterList(nn.Parameter(torch.zeros(one.width_out, one.rank)) for one in layers)

    @classmethod
    def example(cls, at: str, width: int) -> LoraConfig:
        """Rank 2 at one layer."""
        return LoraConfig(layers=(AdaptedLayer(at=at, width_in=width, width_out=width, rank=2, scale=2.0),))

    @property
    def places(self) -> tuple[str, ...]:
        """The adapted layers."""
        return tuple(layer.at for layer in self.config.layers)

    def attach(self, model: nn.Module) -> None:
        """Act on the layers.

        Raises:
            ModelError: one is not there, or has another shape.
        """
        for number, layer in enumerate(self.config.layers):
            module = module_at(model, layer.at, "part 'lora'")
            weight: Any = getattr(module, "weight", None)
            if weight is None or sorted(weight.shape) != sorted((layer.width_in, layer.width_out)):
                raise ModelError(
                    f"part 'lora' adapts {layer.at} as a linear layer from {layer.width_in} to {layer.width_out}, and "
                    f"there is a {type(module).__name__}; give the base that it was trained on"
                )
            for parameter in (self.down[number], self.up[number]):
                parameter.data = parameter.data.to(weight.device, weight.dtype)
            self.holds(module.register_forward_hook(partial(self._adapted, number)))

    def fold(self, model: nn.Module) -> bool:
        """W <- W + alpha · scale · B A, unless a weight has another layer to serve."""
        modules = [module_at(model, layer.at, "part 'lora'") for layer in self.config.layers]
        weights: list[Any] = [module.weight for module in modules]
        if any(_num_holders(model, weight) > 1 for weight in weights):
            return False
        for number, (module, weight) in enumerate(zip(modules, weights, strict=True)):
            delta_ED = (self.up[number] @ self.down[number]) * (self.alpha * self.config.layers[number].scale)
            with torch.no_grad():
                weight.add_(delta_ED if isinstance(module, nn.Linear) else delta_ED.T)
        return True

    def _adapted(self, number: int, _module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        """A forward hook of one layer."""
        if self.is_off:
            return None
        scale = self.config.layers[number].scale
        change = low_rank_change(inputs[0], self.down[number], self.up[number], scale)
        return output + (change if self.alpha == 1 else self.alpha * change)


def _num_holders(model: nn.Module, weight: Tensor) -> int:
    """Modules that hold a weight as their own."""
    return sum(any(p is weight for p in module.parameters(recurse=False)) for module in model.modules())


def as_part(model: Any) -> Lora:
    """The adapter of a PEFT model.

    Args:
        model: with one LoRA adapter, on linear layers.

    Raises:
        ModelError: it is something else than low-rank matrices beside linear layers.
    """
    named = model.get_base_model().named_modules()
    adapted = {name: module for name, module in named if _ADAPTER in getattr(module, "lora_A", {})}
    _check_plain(model, adapted)
    part = Lora(LoraConfig(layers=tuple(_layer_of(name, module) for name, module in adapted.items())))
    for number, module in enumerate(adapted.values()):
        part.down[number].data = module.lora_A[_ADAPTER].weight.detach().clone()
        part.up[number].data = module.lora_B[_ADAPTER].weight.detach().clone()
    return part.eval().requires_grad_(False)


def _check_plain(model: Any, adapted: Mapping[str, Any]) -> None:
    odd = next((name for name, module in adapted.items() if not _is_plain(module)), None)
    if odd is not None or not adapted or model.peft_config[_ADAPTER].modules_to_save:
        raise ModelError(
            f"the adapter of {odd or 'this model'} cannot be kept as a part beside others; accepted: plain LoRA on "
            "linear layers; merge it (scope.merge = true)"
        )


def _layer_of(name: str, module: Any) -> AdaptedLayer:
    down, up = module.lora_A[_ADAPTER], module.lora_B[_ADAPTER]
    return AdaptedLayer(
        at=name,
        width_in=down.in_features,
        width_out=up.out_features,
        rank=down.out_features,
        scale=module.scaling[_ADAPTER],
    )


def _is_plain(module: Any) -> bool:
    """Two matrices beside a linear layer, and nothing else?"""
    matrices = isinstance(module.lora_A[_ADAPTER], nn.Linear) and isinstance(module.lora_B[_ADAPTER], nn.Linear)
    return matrices and module.lora_B[_ADAPTER].bias is None and not getattr(module, "lora_magnitude_vector", None)


def kept_beside(model: Any) -> Any:
    """The base of a PEFT model, bearing its adapter as the newest of its parts."""
    adapter = as_part(model)
    parts = detach(model)
    return attach(model.unload(), [*parts, adapter])


PART = Lora
