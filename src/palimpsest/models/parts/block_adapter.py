"""A block adapter: a narrow net beside the feed-forward network of every block, one part for a whole task.

Source: Chen et al. 2022, "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition", arXiv:2205.13535,
as APER, EASE and MOS use it:

    y <- y + alpha · scale · (relu(x A + a) B + b)     x enters the network, y leaves it; B, a, b begin at zero

So a new one changes nothing. Departs from the paper: x is what the network itself takes, behind the block's norm where
that stands before it. Of a ResNet's block, which has no such network, x is y: what its last normalisation gives.

Shape legend: ... any leading axes, I width in, R rank, O width out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.method_card import Config
from palimpsest.models.parts.task_views import TaskPart, TaskPartConfig
from palimpsest.models.places import ffn_outputs, module_at

_WHO = "part 'block_adapter'"


class AdapterPlace(Config):
    """Where it is beside one network."""

    at: str = Field(min_length=1)
    """Module whose output it is added to."""
    reads: str = ""
    """Module whose input it takes; "" = it takes the output of ``at``."""
    width_in: int = Field(ge=1)
    """Numbers that enter it."""
    width_out: int = Field(ge=1)
    """Numbers that leave it."""


class BlockAdapterConfig(TaskPartConfig):
    """Options of a block adapter."""

    layers: tuple[AdapterPlace, ...] = Field(min_length=1)
    """A place for each block."""
    rank: int = Field(default=64, ge=1)
    """R, width of the narrow net."""
    scale: float = Field(default=0.1, gt=0)
    """Factor of what it adds."""
    moves: bool = True
    """False: its numbers are no parameters, as of a running average of another one."""


def adapter_change(
    x: Float[Tensor, "... I"],
    down: tuple[Float[Tensor, "R I"], Float[Tensor, "R"]],
    up: tuple[Float[Tensor, "O R"], Float[Tensor, "O"]],
    scale: float,
) -> Float[Tensor, "... O"]:
    """Scale · (relu(x A + a) B + b).

    >>> down = (torch.tensor([[1.0, 1.0]]), torch.tensor([-1.0]))
    >>> up = (torch.tensor([[2.0], [0.0]]), torch.tensor([0.0, 1.0]))
    >>> adapter_change(torch.tensor([1.0, 2.0]), down, up, 0.5).tolist()
    [2.0, 0.5]
    """
    return F.linear(torch.relu(F.linear(x, *down)), *up) * scale


class BlockAdapter(TaskPart):
    """The adapters of one task."""

    Config = BlockAdapterConfig
    kind = "block_adapter"

    def __init__(self, config: BlockAdapterConfig) -> None:
        super().__init__(config)
        for number, place in enumerate(config.layers):
            down = torch.empty(config.rank, place.width_in)
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))
            self._keep(f"down_{number}", down)
            self._keep(f"down_bias_{number}", torch.zeros(config.rank))
            self._keep(f"up_{number}", torch.zeros(place.width_out, config.rank))
            self._keep(f"up_bias_{number}", torch.zeros(place.width_out))
        self._taken: dict[int, Tensor] = {}

    def _keep(self, name: str, tensor: Tensor) -> None:
        if self.config.moves:
            self.register_parameter(name, nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor)

    @classmethod
    def example(cls, at: str, width: int) -> BlockAdapterConfig:
        """A rank of 4 beside one layer."""
        place = AdapterPlace(at=at, reads=at, width_in=width, width_out=width)
        return BlockAdapterConfig(layers=(place,), rank=4)

    @property
    def places(self) -> tuple[str, ...]:
        """The modules whose outputs it is added to."""
        return tuple(place.at for place in self.config.layers)

    def numbers(self) -> dict[str, Tensor]:
        """Its tensors by name, parameters or not."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def attach(self, model: nn.Module) -> None:
        """Act beside every network.

        Raises:
            ModelError: one is not there.
        """
        for number, place in enumerate(self.config.layers):
            module = module_at(model, place.at, _WHO)
            like = next(module.parameters(), next(model.parameters()))
            self.to(device=like.device, dtype=like.dtype)
            if place.reads not in ("", place.at):
                reads = module_at(model, place.reads, _WHO)
                self.holds(reads.register_forward_pre_hook(partial(self._take, number)))
            self.holds(module.register_forward_hook(partial(self._adapted, number)))

    def _take(self, number: int, _module: nn.Module, inputs: Any) -> None:
        if not self.is_off:
            self._taken[number] = inputs[0]

    def _adapted(self, number: int, _module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        """A forward hook of one place."""
        if self.is_off:
            return None
        place = self.config.layers[number]
        x = output if not place.reads else inputs[0] if place.reads == place.at else self._taken.pop(number)
        change = self._change(number, x)
        return output + (change if self.alpha == 1 else self.alpha * change)

    def _change(self, number: int, x: Tensor) -> Tensor:
        """What is added at a place; channels come first in a picture (B, C, H, W)."""
        own = self.__getattr__
        down = own(f"down_{number}"), own(f"down_bias_{number}")
        up = own(f"up_{number}"), own(f"up_bias_{number}")
        if x.ndim != 4:
            return adapter_change(x, down, up, self.config.scale)  # type: ignore[arg-type]
        last = adapter_change(x.movedim(1, -1), down, up, self.config.scale)  # type: ignore[arg-type]
        return last.movedim(-1, 1)


def adapter_places(model: nn.Module, at: Sequence[str] = ()) -> tuple[AdapterPlace, ...]:
    """A place beside the network of every block, or behind the modules that are named.

    Args:
        model: a transformer, or a ResNet with two or three normalised convolutions in a block.
        at: names of modules that are given instead.

    Raises:
        ModelError: no network can be told, or a module's width cannot; names the option ``at``.
    """
    residual = () if at else tuple(residual_ends(model))
    if at or residual:
        return tuple(_behind(model, name) for name in at or residual)
    return tuple(_beside(model, place) for place in ffn_outputs(model))


def new_adapter(model: nn.Module, at: Sequence[str], task: int, rank: int, scale: float) -> BlockAdapter:
    """The adapter of a task, which changes nothing yet.

    Args:
        model: it is for.
        at: modules behind which it goes; all networks when empty.
        task: its number.
        rank: width of its narrow nets.
        scale: factor of what they add.

    Raises:
        ModelError: no place can be told; names the option ``at``.
    """
    layers = adapter_places(model, at)
    return BlockAdapter(BlockAdapterConfig(task=task, layers=layers, rank=rank, scale=scale))


@torch.no_grad()
def drawn_to(adapter: BlockAdapter, others: Sequence[BlockAdapter], share: float) -> None:
    """Move an adapter a share of the way to the mean of others, number by number; of none it stays.

    Args:
        adapter: moves.
        others: of the same places and rank.
        share: of the way, 0 to 1.

    Raises:
        ModelError: one is of another rank, or at other places.
    """
    for other in others:
        if (other.config.rank, other.config.layers) != (adapter.config.rank, adapter.config.layers):
            made = f" (by {other.made_by['method']})" if other.made_by else ""
            raise ModelError(
                f"the adapter of task {other.config.task}{made} has rank {other.config.rank}, and the new one has "
                f"{adapter.config.rank}, or other places; accepted: the method and options that the earlier tasks had"
            )
    for name, tensor in adapter.numbers().items() if others else ():
        tensor.lerp_(torch.stack([other.numbers()[name] for other in others]).mean(dim=0), share)


def residual_ends(model: nn.Module) -> Iterator[str]:
    """Names of the last normalisation in every block of a ResNet, as ours, torchvision's and timm's are built.

    >>> block = nn.Module()
    >>> block.conv1, block.bn1, block.conv2, block.bn2 = (nn.Identity() for _ in range(4))
    >>> list(residual_ends(nn.ModuleDict({"only": block})))
    ['only.bn2']
    """
    for name, block in model.named_modules():
        children = dict(block.named_children())
        if name and {"conv1", "bn1", "conv2", "bn2"} <= set(children):
            yield f"{name}.bn3" if "bn3" in children else f"{name}.bn2"


def width_behind(module: nn.Module) -> int | None:
    """Numbers, or channels, that leave the last layer in a module whose width can be told; None where none can.

    >>> width_behind(nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 3))), width_behind(nn.Tanh())
    (3, None)
    """
    for layer in reversed(list(module.modules())):
        for name in ("out_features", "num_features", "out_channels"):
            if isinstance(width := getattr(layer, name, None), int):
                return width
        if isinstance(layer, nn.LayerNorm):
            return int(layer.normalized_shape[-1])
    return None


def _behind(model: nn.Module, name: str) -> AdapterPlace:
    width = width_behind(module_at(model, name, "option at"))
    if width is None:
        raise ModelError(
            f"{name} of a {type(model).__name__} ends in no layer whose width can be told; accepted: modules that end "
            "in a linear layer, a convolution or a normalisation (option at)"
        )
    return AdapterPlace(at=name, width_in=width, width_out=width)


def _beside(model: nn.Module, place: str) -> AdapterPlace:
    """Beside a network: it takes what the network takes, where that can be told, else what leaves it."""
    module, outer = model.get_submodule(place), place.rpartition(".")[0].rpartition(".")[0]
    linear = [inner for inner in module.modules() if isinstance(inner, nn.Linear)]
    behind = _behind(model, place)
    if len(linear) > 1:
        return behind.model_copy(update={"reads": place, "width_in": linear[0].in_features})
    block = model.get_submodule(outer) if outer else model
    if "intermediate" in dict(block.named_children()):  # BERT: a network in two modules, the second adds the residual
        first = next(inner for inner in block.get_submodule("intermediate").modules() if isinstance(inner, nn.Linear))
        return behind.model_copy(update={"reads": f"{outer}.intermediate", "width_in": first.in_features})
    return behind


PART = BlockAdapter
