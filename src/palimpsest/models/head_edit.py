"""What of a model is changed so that a class loses neurons: entries of the head, and rows of the layer before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from palimpsest.data.encode.batch import ExampleSet
from palimpsest.errors import ModelError, PlanError
from palimpsest.models.class_samples import entered
from palimpsest.models.families import of_model
from palimpsest.models.hooked import hooked
from palimpsest.models.neuron_path import LinearHead
from palimpsest.models.parts.class_head import refuse_replaced
from palimpsest.models.places import name_of_module

Noise = Literal["none", "gaussian", "laplace"]


@dataclass(frozen=True)
class HeadPlace:
    """The head of a model.

    Attributes:
        name: of the module.
        module: it.
    """

    name: str
    module: nn.Linear

    @property
    def numbers(self) -> LinearHead:
        """Its weight and bias, copies in fp32 on the CPU."""
        weight_CK = self.module.weight.detach().float().cpu().clone()
        bias = self.module.bias
        bias_C = torch.zeros(len(weight_CK)) if bias is None else bias.detach().float().cpu().clone()
        return LinearHead(weight_CK, bias_C)


def head_of(model: nn.Module, who: str) -> HeadPlace:
    """The last linear layer of a model.

    Raises:
        ModelError: there is none.
        PlanError: a part answers in its place.
    """
    refuse_replaced(model, who)
    head = of_model(model).head(model)
    if not isinstance(head, nn.Linear):
        what = "no last linear layer" if head is None else f"a {type(head).__name__} as its last layer"
        raise ModelError(f"method {who!r} cuts edges of the last nn.Linear, and a {type(model).__name__} has {what}")
    return HeadPlace(name_of_module(model, head), head)


def layer_before(model: nn.Module, head: HeadPlace, examples: ExampleSet, who: str) -> str:
    """Name of the layer whose rows are the neurons that enter the head: the last one with weights to run before it.

    Raises:
        ModelError: it has not a row for each of them, e.g. because its outputs are laid flat.
    """
    ran: list[str] = []
    own = {name: module for name, module in model.named_modules() if _has_rows(module)}
    with hooked(module.register_forward_pre_hook(_noting(ran, name)) for name, module in own.items()):
        entered(model, head.module, examples, examples.ids[:1])
    before = ran[: ran.index(head.name)]
    width = head.module.in_features
    if not before or len(own[before[-1]].weight) != width:
        last = f"{before[-1]} has {len(own[before[-1]].weight)} rows" if before else "there is none"
        raise ModelError(
            f"{who}.cut = path needs a layer with a row for each of the {width} neurons that enter {head.name}, and "
            f"of the layer before it {last}; accepted: head, columns"
        )
    return before[-1]


def _has_rows(module: nn.Module) -> bool:
    return isinstance(getattr(module, "weight", None), nn.Parameter)


def _noting(ran: list[str], name: str) -> Callable[..., None]:
    def note(_module: nn.Module, _arguments: Any) -> None:
        ran.append(name)

    return note


def check_may_move(model: nn.Module, names: Sequence[str], who: str) -> None:
    """Refuse to edit what the scope freezes.

    Raises:
        PlanError: names the first such tensor.
    """
    there = dict(model.named_parameters(remove_duplicate=False))  # tied weights go by both names
    frozen = next((name for name in names if name not in there or not there[name].requires_grad), None)
    if frozen is not None:
        raise PlanError(
            f"method {who!r} edits {frozen}, which the scope of the run freezes; accepted: scope.kind = all, or one "
            "that holds it"
        )


@torch.no_grad()
def disturb(tensor: Tensor, where: Bool[Tensor, "*tensor"], noise: Noise, generator: torch.Generator) -> None:
    """Set entries to 0, or add noise of size 1 to them: N(0, 1) or Laplace(0, 1), the controls of the paper.

    Args:
        tensor: changed in place.
        where: which entries, of its shape.
        noise: "none" sets them to 0.
        generator: of the noise.

    >>> w = torch.ones(2)
    >>> disturb(w, torch.tensor([True, False]), "none", torch.Generator())
    >>> w.tolist()
    [0.0, 1.0]
    """
    where = where.to(tensor.device)
    if noise == "none":
        tensor.masked_fill_(where, 0)
        return
    added = torch.randn(tensor.shape, generator=generator)
    if noise == "laplace":
        uniform = torch.rand(tensor.shape, generator=generator) - 0.5
        added = -uniform.sign() * torch.log1p(-2 * uniform.abs().clamp(max=0.4999999))
    tensor.add_(torch.where(where, added.to(tensor.device, tensor.dtype), torch.zeros_like(tensor)))
