"""An unlearning layer: a small map beside a block's feed-forward network that learns to forget while the model rests.

Source: Chen & Yang 2023, "Unlearn What You Want to Forget: Efficient Unlearning for LLMs", EMNLP. Three forms:

    bottleneck    y <- y + alpha · gelu(y A) B      y leaves the network; A (D, K), B (K, D)
    linear        y <- y + alpha · y W              W (D, D); folds into the network's last linear layer
    lora          y <- y + alpha · x A B            x enters the network's last linear layer; folds into it

What begins at zero never starts: the divergence between the model and itself has no gradient there. So B and W begin as
small noise. A begins the same at a place for every request, so that what several requests learned there can be fused.

Shape legend: N positions, D width of the model, I width in, K rank.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.models.parts.part import Part, PartConfig
from palimpsest.models.places import module_at
from palimpsest.models.regmean import factored, fused, gram

Form = Literal["bottleneck", "linear", "lora"]
Grams = dict[str, Tensor]
"""Of one layer: "input" (I, I), and of a bottleneck "inner" (K, K), each XᵀX over all positions of a request."""

_EXACT = 1e-5  # of the largest output; a fold that answers otherwise is taken back
_WHO = "part 'unlearning_layer'"


class UnlearningLayerConfig(PartConfig):
    """Options of an unlearning layer."""

    form: Form = "bottleneck"
    """"bottleneck", "linear" or "lora"."""
    width_in: int = Field(ge=1)
    """Numbers that enter it: the model's width, for "lora" that of the network."""
    width_out: int = Field(ge=1)
    """Numbers that leave it: the model's width."""
    rank: int = Field(default=16, ge=1)
    """Numbers between A and B; "linear" has none."""
    noise: float = Field(default=0.02, ge=0)
    """Standard deviation of B, or W, at the start."""
    folds: bool = True
    """Fold into the weights when a version is saved, where the form can; False keeps it to be fused or removed."""


def bottleneck_change(
    x: Float[Tensor, "... D"], down_DK: Float[Tensor, "D K"], up_KD: Float[Tensor, "K D"]
) -> Float[Tensor, "... D"]:
    """gelu(x A) B.

    >>> bottleneck_change(torch.tensor([[0.0, 3.0]]), torch.zeros(2, 1), torch.ones(1, 2)).tolist()
    [[0.0, 0.0]]
    """
    return F.gelu(x @ down_DK) @ up_KD


class UnlearningLayer(Part):
    """A bottleneck, a linear map or a low-rank map after a feed-forward network."""

    Config = UnlearningLayerConfig
    kind = "unlearning_layer"

    def __init__(self, config: UnlearningLayerConfig) -> None:
        super().__init__(config)
        self.folds_when_saved = config.folds
        self.grams: Grams = {}
        self.records = False
        if config.form == "linear":
            self.map = nn.Parameter(torch.randn(config.width_in, config.width_out) * config.noise)
        else:
            self.down = nn.Parameter(_same_start(config))
            self.up = nn.Parameter(torch.randn(config.rank, config.width_out) * config.noise)

    @classmethod
    def example(cls, at: str, width: int) -> UnlearningLayerConfig:
        """A bottleneck after a linear layer."""
        return UnlearningLayerConfig(at=at, width_in=width, width_out=width, rank=4)

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the output of the place."""
        if self.records:
            self._record(x)
        if self.config.form == "linear":
            return x @ self.map
        if self.config.form == "lora":
            return x @ self.down @ self.up
        return bottleneck_change(x, self.down, self.up)

    def _after(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if self.config.form != "lora":
            return super()._after(module, inputs, output)
        return None if self.is_off else output + self.alpha * self(inputs[0])

    def _record(self, x: Tensor) -> None:
        """Add the second moments of what enters each of its linear maps; never the inputs themselves."""
        flat_NI = x.detach().reshape(-1, x.shape[-1])
        seen = {"input": gram(flat_NI)}
        if self.config.form == "bottleneck":
            seen["inner"] = gram(F.gelu(flat_NI @ self.down.detach()))
        for name, moments in seen.items():
            self.grams[name] = self.grams[name] + moments if name in self.grams else moments

    def fold(self, model: nn.Module) -> bool:
        """Fold a linear or low-rank map into the last linear layer of the network; a bottleneck cannot be.

        Whether the network's output really is that layer's is tried on random inputs; where it is not, nothing changes.
        """
        place = module_at(model, self.config.at, _WHO)
        last = last_linear(place)
        if self.config.form == "bottleneck" or last is None or _is_shared(model, last):
            return False
        if self.config.form == "lora":
            _add_to(last, (self.down.double() @ self.up.double()) * self.alpha)
            return True
        return _folded_if_exact(place, last, self.map.detach().double() * self.alpha)


@contextmanager
def recording(layers: Sequence[UnlearningLayer]) -> Iterator[None]:
    """Every forward pass in the block adds to the Gram matrices of these layers, which begin empty."""
    for layer in layers:
        layer.grams, layer.records = {}, True
    try:
        yield
    finally:
        for layer in layers:
            layer.records = False


def fused_layer(layers: Sequence[UnlearningLayer], grams: Sequence[Grams], ridge: float) -> UnlearningLayer:
    """One layer that does on the inputs of each request what that request's own layer did.

    Args:
        layers: of one place, form and shape, one for each request.
        grams: those of each layer.
        ridge: as a share of the mean diagonal (``regmean.fused``).

    Returns:
        A new layer. Of a bottleneck both maps are fused, each by what entered it; of low-rank maps the products are,
        and the nearest product of the same rank is taken.

    Raises:
        ModelError: they do not fit together.
    """
    first = layers[0]
    _check_fit(layers)
    found, inputs = UnlearningLayer(first.config), [one["input"] for one in grams]
    with torch.no_grad():
        if first.config.form == "linear":
            found.map.copy_(fused(inputs, [one.map for one in layers], ridge))
            return found
        if first.config.form == "lora":
            down, up = factored(fused(inputs, [one.down @ one.up for one in layers], ridge), first.config.rank)
        else:
            down = fused(inputs, [one.down for one in layers], ridge)
            up = fused([one["inner"] for one in grams], [one.up for one in layers], ridge)
        found.down.copy_(down)
        found.up.copy_(up)
    return found


def _check_fit(layers: Sequence[UnlearningLayer]) -> None:
    first = layers[0]
    odd = next((one for one in layers if _fit(one) != _fit(first)), None)
    if odd is not None:
        raise ModelError(
            f"unlearning layers cannot be fused: one is a {_in_words(first)}, another a {_in_words(odd)}; accepted: "
            "layers of the same places, form and rank"
        )


def last_linear(place: nn.Module) -> nn.Module | None:
    """The linear layer that a module's output leaves: itself, or the last of its own; None where it has none."""
    linear = [module for module in place.modules() if _widths(module) is not None]
    return linear[-1] if linear else None


def widths_at(model: nn.Module, place: str) -> tuple[str, int, int]:
    """Name of the last linear layer at a place, and its widths in and out.

    Raises:
        ModelError: there is no linear layer, as in experts that are fused into one tensor.
    """
    module = module_at(model, place, _WHO)
    last = last_linear(module)
    if last is None:
        raise ModelError(
            f"{place} of a {type(model).__name__} ends in no linear layer, so that its width is not known; accepted: "
            "feed-forward networks such as Llama's, GPT-2's, OPT's or BERT's (option at)"
        )
    inner = next(name for name, one in module.named_modules() if one is last)
    width_in, width_out = _widths(last) or (0, 0)
    return f"{place}.{inner}" if inner else place, width_in, width_out


def _same_start(config: UnlearningLayerConfig) -> Float[Tensor, "I K"]:
    """A as it begins at a place, for every request the same; variance 1 / I."""
    device = torch.get_default_device()
    if device.type == "meta":
        return torch.empty(config.width_in, config.rank)
    own = torch.Generator().manual_seed(zlib.crc32(config.at.encode()))
    drawn = torch.randn(config.width_in, config.rank, generator=own, device="cpu") / config.width_in**0.5
    found: Tensor = drawn.to(device)
    return found


def _widths(layer: nn.Module) -> tuple[int, int] | None:
    """Width in and out of a linear layer, GPT-2's transposed ones included."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if type(layer).__name__ == "Conv1D":
        weight: Any = layer.weight
        return int(weight.shape[0]), int(weight.shape[1])
    return None


def _fit(layer: UnlearningLayer) -> dict[str, Any]:
    found: dict[str, Any] = layer.config.model_dump(exclude={"noise", "folds"})
    return found


def _in_words(layer: UnlearningLayer) -> str:
    config = layer.config
    rank = "" if config.form == "linear" else f" of rank {config.rank}"
    return f"{config.form}{rank} at {config.at} ({config.width_in} to {config.width_out})"


def _is_shared(model: nn.Module, layer: nn.Module) -> bool:
    """Has its weight another layer to serve?"""
    weight: Any = layer.weight
    return sum(any(p is weight for p in module.parameters(recurse=False)) for module in model.modules()) > 1


@torch.no_grad()
def _add_to(layer: nn.Module, change_IO: Float[Tensor, "I O"]) -> None:
    weight: Any = layer.weight
    weight.copy_(weight.double() + (change_IO.T if isinstance(layer, nn.Linear) else change_IO))


@torch.no_grad()
def _folded_if_exact(place: nn.Module, last: nn.Module, map_OO: Float[Tensor, "O O"]) -> bool:
    """W + W·map in the place of W, and so the bias; undone where the place then answers otherwise than with the map."""
    held: list[Any] = [last.weight, *([last.bias] if getattr(last, "bias", None) is not None else [])]
    kept = [tensor.clone() for tensor in held]
    wanted = _tried(place, last)
    for tensor in held:
        turned = isinstance(last, nn.Linear) and tensor.ndim == 2
        by_input = tensor.double().T if turned else tensor.double()
        changed = by_input + by_input @ map_OO
        tensor.copy_(changed.T if turned else changed)
    if wanted is not None and _is_near(_tried(place, last), wanted + wanted @ map_OO):
        return True
    for tensor, old in zip(held, kept, strict=True):
        tensor.copy_(old)
    return False


def _is_near(found: Tensor | None, wanted: Tensor) -> bool:
    return found is not None and bool((found - wanted).abs().max() <= _EXACT * wanted.abs().max())


def _tried(place: nn.Module, last: nn.Module) -> Tensor | None:
    """What a place answers to a few random inputs, in double precision; None where it takes or gives something else."""
    from palimpsest.models.modes import in_eval_mode

    first = next(module for module in place.modules() if _widths(module) is not None)
    width, like = (_widths(first) or (1, 1))[0], last.weight
    own = torch.Generator().manual_seed(0)
    asked = torch.randn(1, 8, width, generator=own).to(device=like.device, dtype=like.dtype)  # type: ignore[arg-type]
    try:
        with in_eval_mode(place):
            said = place(asked)
    except (TypeError, RuntimeError, ValueError):
        return None
    return said.double() if isinstance(said, Tensor) else None


PART = UnlearningLayer
