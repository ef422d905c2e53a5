"""One more backbone beside a model's own, and what it adds to a wide head that reads all of them.

    f_t     = what enters the head when the tensors of this part stand in the place of the model's own
    logits <- logits + alpha · ( W_t [f_0; f_r ...; f_t] + b_t ),       f_0 the model's own features

The sum over the parts of a model is one wide head over all features, [W_0 + Σ W_t | ...]: a new part begins with W_t =
b_t = 0, so that nothing is said otherwise at first, and whoever takes the newest part off has the model before to the
bit. Off, or dropped, a part counts as features of zero for those that came after it.

Source: Yan et al. 2021, "DER: Dynamically Expandable Representation for Class Incremental Learning", arXiv:2103.16788,
on the super-feature; a part that holds the last blocks alone is the specialised block of Zhou et al. 2023, "A Model or
603 Exemplars: Towards Memory-Efficient Class-Incremental Learning", arXiv:2205.13218. Known from notes only.

Departs from the paper: the wide head is kept as a sum, a term for each backbone. Tensors that are not copied are the
model's own, and a pass is made through all of the model again: the last blocks alone save space, not time.

Batch normalisation: a backbone that moves counts in its own pass as the model's own would (``data/encode/batch_norm``);
one that is frozen, and every layer that is not copied, keeps its statistics.

Shape legend: K classes, D features of a backbone, A rows of the auxiliary classifier, S rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from palimpsest.errors import ModelError
from palimpsest.method_card import Config
from palimpsest.models.parts import parts_of
from palimpsest.models.parts.part import Part, PartConfig
from palimpsest.models.places import module_at


class CopiedTensor(Config):
    """A tensor of the model that a backbone has its own of."""

    name: str = Field(min_length=1)
    """As in the state dict of the model."""
    shape: tuple[int, ...]
    """Its sizes."""
    role: Literal["weight", "statistic", "count"] = "weight"
    """A parameter, what batch normalisation keeps of the data, or its count of batches."""


class GrownBackboneConfig(PartConfig):
    """Options of a grown backbone; it sits at the head."""

    number: int = Field(ge=1)
    """By which later ones know it; 0 is the model's own backbone."""
    reads: tuple[int, ...] = (0,)
    """Earlier backbones whose features its columns of the head read, before its own."""
    width: int = Field(ge=1)
    """D, features of a backbone."""
    outputs: int = Field(ge=1)
    """K, classes that the head had when it was made; of classes that came later it says nothing."""
    tensors: tuple[CopiedTensor, ...] = Field(min_length=1)
    """Of the model, all before the head or those of the last blocks."""
    bias: bool = True
    """Has its term of the head a bias?"""
    auxiliary: int = Field(default=0, ge=0)
    """A, rows of a classifier of its own features that only the training looks at; 0 = none."""
    alone: bool = False
    """Are the logits W_t f_t + b_t, in the place of what the model says?"""


def wide_logits(
    features: Sequence[Float[Tensor, "... D"]], weight: Float[Tensor, "K W"], bias: Float[Tensor, "K"] | None
) -> Float[Tensor, "... K"]:
    """A linear layer over features one behind the other, W of them in all.

    >>> one, two = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    >>> wide_logits([one, two], torch.tensor([[1.0, 0.0, 0.0, 10.0]]), torch.tensor([0.5])).tolist()
    [41.5]
    """
    return F.linear(torch.cat(list(features), dim=-1), weight, bias)


@dataclass
class _Pass:
    """One pass through the model, as far as it went: what it was given, and the features of the backbone."""

    model: nn.Module
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    features: Tensor | None = None


class GrownBackbone(Part):
    """A second set of tensors for a model's layers, and columns of the head for what comes of them."""

    Config: ClassVar[type[GrownBackboneConfig]] = GrownBackboneConfig
    kind = "grown_backbones"
    folds_when_saved = False

    def __init__(self, config: GrownBackboneConfig) -> None:
        super().__init__(config)
        self.weights = nn.ParameterDict()
        self.statistics = nn.Module()
        for tensor in config.tensors:
            self._make_room(tensor)
        read = 1 if config.alone else len(config.reads) + 1
        self.columns = nn.Parameter(torch.zeros(config.outputs, read * config.width))
        self.bias = nn.Parameter(torch.zeros(config.outputs)) if config.bias else None
        self.rows = nn.Parameter(torch.zeros(config.auxiliary, config.width)) if config.auxiliary else None
        # Its mode is that of a layer of batch normalisation: whether a batch may move statistics is told to such alone.
        self.counts = nn.BatchNorm1d(1, affine=False, track_running_stats=False)
        self._pass: _Pass | None = None
        self._entering: list[Tensor] | None = None
        self._told: list[Tensor] | None = None

    @classmethod
    def example(cls, at: str, width: int) -> GrownBackboneConfig:
        """Of a block that normalises what enters the layer."""
        norm = f"{at.partition('.self_attn')[0]}.input_layernorm.weight"
        tensor = CopiedTensor(name=norm, shape=(width,))
        return GrownBackboneConfig(at=at, number=1, width=width, outputs=width, tensors=(tensor,))

    def _make_room(self, tensor: CopiedTensor) -> None:
        key = _key(tensor.name)
        if tensor.role == "weight":
            self.weights[key] = nn.Parameter(torch.zeros(tensor.shape))
        else:
            empty = torch.zeros(tensor.shape, dtype=torch.long if tensor.role == "count" else torch.get_default_dtype())
            self.statistics.register_buffer(key, empty)

    def tensors(self) -> dict[str, Tensor]:
        """Those of the backbone, by the names that the model has for its own."""
        held = {**dict(self.weights.items()), **dict(self.statistics.named_buffers())}
        return {tensor.name: held[_key(tensor.name)] for tensor in self.config.tensors}

    def drop_auxiliary(self) -> None:
        """Leave the auxiliary classifier out, where the training is over."""
        self.rows = None
        self.config = self.config.model_copy(update={"auxiliary": 0})

    def auxiliary_logits(self, features: Float[Tensor, "... D"]) -> Float[Tensor, "... A"]:
        """What the auxiliary classifier says of features of this backbone."""
        if self.rows is None:
            raise ModelError(f"part {self.kind!r} number {self.config.number} has no auxiliary classifier")
        return F.linear(features, self.rows)

    def attach(self, model: nn.Module) -> None:
        """Go through the model once more in every pass, and add to what the head says.

        Raises:
            ModelError: there is no such head, or a tensor that is copied is not there or has another shape.
        """
        head = module_at(model, self.config.at, f"part {self.kind!r}")
        _check_tensors(self.config.tensors, model)
        like = next(head.parameters())
        self.to(device=like.device, dtype=like.dtype)
        self.holds(model.register_forward_pre_hook(self._begin, with_kwargs=True))
        self.holds(head.register_forward_hook(self._after))
        self.holds(model.register_forward_hook(self._end))

    @contextmanager
    def telling(self) -> Iterator[list[Tensor]]:
        """Collect the features of this backbone in the passes of the block, (..., D) each."""
        self._told, outer = [], self._told
        try:
            yield self._told
        finally:
            self._told = outer

    def _begin(self, model: nn.Module, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """Before a pass; none of those that a backbone makes."""
        if not any(part._entering is not None for part in grown_backbones_of(model)):
            self._pass = None if self.is_off else _Pass(model, arguments, options)

    def _end(self, model: nn.Module, _arguments: Any, _output: Any) -> None:
        """After a pass."""
        if not any(part._entering is not None for part in grown_backbones_of(model)):
            self._pass = None

    def _after(self, _head: nn.Module, inputs: Any, output: Any) -> Any:
        """The head has answered."""
        if self._entering is not None:
            self._entering.append(inputs[0])
            return None
        now = self._pass
        if self.is_off or (now is not None and _within(now.model)):
            return None
        if now is None or not isinstance(output, Tensor):
            raise ModelError(
                f"part {self.kind!r} at {self.config.at}: the head was asked without the model, or is none, so there "
                "are no inputs to go through a second backbone with; ask the whole model"
            )
        now.features = self._features_in(now)
        if self._told is not None:
            self._told.append(now.features)
        return self._said(output, self._read(now, inputs[0]))

    def _said(self, said: Tensor, read: Sequence[Tensor]) -> Tensor:
        """Logits with the term of this part."""
        change = wide_logits(read, self.columns, self.bias)
        change = F.pad(change, (0, said.shape[-1] - change.shape[-1]))
        if self.config.alone:
            return said + self.alpha * (change - said) if self.alpha != 1 else change
        return said + (change if self.alpha == 1 else self.alpha * change)

    def _read(self, now: _Pass, own: Tensor) -> list[Tensor]:
        """The features that its columns read, in their order."""
        if now.features is None:
            raise TypeError("features are read before there are any")
        if self.config.alone:
            return [now.features]
        earlier = {part.config.number: part._pass for part in grown_backbones_of(now.model) if part is not self}
        found: dict[int, Tensor] = {0: own}
        for number, its in earlier.items():
            if its is not None and its.features is not None:
                found[number] = its.features
        absent = torch.zeros_like(own)
        return [*(found.get(number, absent) for number in self.config.reads), now.features]

    def _features_in(self, now: _Pass) -> Tensor:
        """What enters the head in a pass through the model with this backbone's tensors."""
        entering: list[Tensor] = []
        self._entering = entering
        try:
            with self._own_modes(now.model):
                functional_call(now.model, self.tensors(), now.arguments, dict(now.options))
        finally:
            self._entering = None
        return entering[-1]

    @contextmanager
    def _own_modes(self, model: nn.Module) -> Iterator[None]:
        """Layers of batch normalisation count in the block where they are copied and their copy moves."""
        moves = self.counts.training and any(weight.requires_grad for weight in self.weights.values())
        copied = {tensor.name.rpartition(".")[0] for tensor in self.config.tensors}
        before = {name: layer.training for name, layer in _counting_layers(model)}
        for name, layer in _counting_layers(model):
            layer.training = moves and name in copied
        try:
            yield
        finally:
            for name, layer in _counting_layers(model):
                layer.training = before[name]


def grown_backbones_of(model: Any) -> tuple[GrownBackbone, ...]:
    """The grown backbones of a model, oldest first."""
    return tuple(part for part in parts_of(model) if isinstance(part, GrownBackbone))


def _counting_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of batch normalisation that keep statistics, by their names."""
    return [(n, m) for n, m in model.named_modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def _within(model: nn.Module) -> bool:
    """Is a backbone going through the model?"""
    return any(part._entering is not None for part in grown_backbones_of(model))


def _key(name: str) -> str:
    """A name without dots, which torch keeps for itself."""
    return name.replace(".", "/")


def _check_tensors(tensors: Sequence[CopiedTensor], model: nn.Module) -> None:
    there = {name: tuple(tensor.shape) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    for tensor in tensors:
        if there.get(tensor.name) != tensor.shape:
            found = f"one of shape {there[tensor.name]}" if tensor.name in there else "none"
            raise ModelError(
                f"part 'grown_backbones' has a {tensor.name} of shape {tensor.shape}, and the model has {found}; give "
                "the model that it was made for, without an adapter (scope.kind = all, layers or parts)"
            )


PART = GrownBackbone
