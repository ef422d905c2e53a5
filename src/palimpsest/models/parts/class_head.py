"""Class heads: parts at a classifier's head that see what enters it and answer in its place, class by class.

    y_c <- s_c(x)  for a class that is there,   y_c <- min over those of s(x) - 100  for one that is not

A class is not there before it is learned, and not any more once it is deleted: its probability is 0, its logit finite,
so that no metric breaks. Where no class is there all logits are 0. A head that grew since has more outputs than the
part has classes; the further ones are not there. What a kind adds is ``scores``, and how it is fitted.

Shape legend: D width of what enters the head, C classes of the part, W outputs of the head.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self, TypeVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError, PlanError
from palimpsest.method_card import Config
from palimpsest.models.parts import parts_of
from palimpsest.models.parts.part import Part, PartConfig
from palimpsest.models.places import module_at, name_of_module

ABSENT = 100.0
"""Nats by which a class that is not there lies below the least of those that are."""
AnyHead = TypeVar("AnyHead", bound="ClassHead")


class ClassHeadConfig(PartConfig):
    """Options of a class head; ``at`` is the name of the model's own head."""

    width: int = Field(ge=1)
    """D, numbers that enter the head."""
    classes: int = Field(ge=1)
    """C, rows of the head when it was fitted."""
    scale: float = Field(default=16.0, gt=0)
    """Factor of all logits: how sure it is of the class it names, which stays the same."""


def with_absent(scores: Float[Tensor, "... C"], present_C: Bool[Tensor, "C"], outputs: int) -> Float[Tensor, "... W"]:
    """Scores of all outputs: of a class that is not there, 100 below the least of the others; all 0 where none is.

    >>> with_absent(torch.tensor([3.0, 9.0, 1.0]), torch.tensor([True, False, True]), 4).tolist()
    [3.0, -99.0, 1.0, -99.0]
    """
    missing = outputs - scores.shape[-1]
    present_W = torch.cat([present_C, present_C.new_zeros(missing)])
    wide = torch.cat([scores, scores.new_zeros(*scores.shape[:-1], missing)], -1)
    if not bool(present_C.any()):
        return torch.zeros_like(wide)
    least = wide.masked_fill(~present_W, torch.inf).amin(-1, keepdim=True)
    return torch.where(present_W, wide, least - ABSENT)


def refuse_replaced(model: nn.Module, who: str) -> None:
    """Refuse to change a head that nobody reads: a part that knows which classes there are answers in its place.

    Raises:
        PlanError: names the part and who made it.
    """
    for part in parts_of(model):
        if hasattr(part, "present_C"):
            made = f" by {part.made_by['method']}" if part.made_by else ""
            raise PlanError(
                f"method {who!r} changes the head of a model, and part {part.kind!r}{made} answers in its place; "
                "accepted: the method that made it, or a version without that part (palimpsest parts)"
            )


class ClassHead(Part):
    """Answers in the place of a head; kinds give ``scores``. Nothing of it is trained: it is fitted in closed form.

    Its numbers stay in fp32, whatever the model has.
    """

    Config = ClassHeadConfig
    folds_when_saved = False
    grows: Collection[str] = ("present_C",)
    """Names of the buffers whose first dimension are the classes."""

    present_C: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("present_C", torch.zeros(config.classes, dtype=torch.bool))

    @classmethod
    def example(cls, at: str, width: int) -> Any:
        """As many classes as numbers enter."""
        return cls.Config.model_validate({"at": at, "width": width, "classes": width})

    def attach(self, model: nn.Module) -> None:
        """Answer for the head from now on, on its device."""
        module = module_at(model, self.config.at, f"part {self.kind!r}")
        self.to(device=next(module.parameters(), next(model.parameters())).device)
        self.holds(module.register_forward_hook(self._after))

    def scores(self, entering: Float[Tensor, "... D"]) -> Float[Tensor, "... C"]:
        """Of every class, before the scale; what stands at one that is not there does not matter."""
        raise NotImplementedError

    def forward(self, entering: Float[Tensor, "... D"], outputs: int) -> Float[Tensor, "... W"]:
        """The logits of so many outputs."""
        return with_absent(self.config.scale * self.scores(entering.float()), self.present_C, outputs)

    def _after(self, _module: nn.Module, inputs: Any, output: Any) -> Any:
        """A forward hook: in the place of what the head said."""
        if self.is_off:
            return None
        if not isinstance(output, Tensor) or output.shape[-1] < len(self.present_C):
            raise ModelError(
                f"part {self.kind!r} at {self.config.at}: it answers for {len(self.present_C)} classes and the head "
                "has fewer, or is none; accepted: the head that it was fitted at, or that grown"
            )
        said = self(inputs[0], output.shape[-1]).to(output.dtype)
        return said if self.alpha == 1 else output + self.alpha * (said - output)

    def take_over(self, other: Self) -> None:
        """Have what another one of this kind has; classes beyond its own are not there."""
        theirs = dict(other.named_buffers())
        with torch.no_grad():
            for name, mine in self.named_buffers():
                if theirs[name].shape[1:] != mine.shape[1:]:
                    raise ModelError(
                        f"the model's part {self.kind!r} was fitted with other features than this run's; accepted: the "
                        "options that it was learned with (left out, they are taken from it), or a version learned anew"
                    )
                (mine[: len(theirs[name])] if name in self.grows else mine).copy_(theirs[name])


def head_place(model: nn.Module) -> tuple[str, nn.Linear]:
    """Name of a classifier's head, and the head.

    Raises:
        ModelError: it has none.
    """
    from palimpsest.models.families import of_model
    from palimpsest.models.parts import bearer_of

    family = of_model(model)
    head = family.head(model)
    if not family.has_classes or not isinstance(head, nn.Linear):
        raise ModelError(
            f"a {type(model).__name__} has no linear head with classes; accepted: a classifier of images or of texts"
        )
    return name_of_module(bearer_of(model), head), head


def class_heads_of(model: Any) -> list[ClassHead]:
    """The class heads of a model, the oldest first."""
    from palimpsest.models.parts import parts_of

    return [part for part in parts_of(model) if isinstance(part, ClassHead)]


def fitted_head(model: Any, kind: type[AnyHead]) -> AnyHead:
    """The class head of a kind that a model bears; its last one.

    Raises:
        ModelError: there is none.
    """
    found = [part for part in class_heads_of(model) if isinstance(part, kind)]
    if not found:
        raise ModelError(f"the model has no part {kind.kind!r} at its head; learn with the method that adds it first")
    return found[-1]


def new_head(model: nn.Module, kind: type[AnyHead], options: Config) -> AnyHead:
    """A class head of a kind, as wide as the model's head; one of that kind that is there already is gone on with.

    Class heads that the model bears are taken off: there is one at a time.

    Args:
        model: at the weights that a run starts from.
        kind: of the head.
        options: of a method; those of the same names are the head's, and where nothing was said the earlier one's.
    """
    from palimpsest.models.parts import detach

    config, same = _config_of(model, kind, options)
    detach(model, class_heads_of(model))
    made = kind(config)
    if same is not None:
        made.take_over(same)
        made.continues = True
    return made


def config_of_new_head(model: nn.Module, kind: type[AnyHead], options: Config) -> Any:
    """Of the head that ``new_head`` would make; the model stays as it is."""
    return _config_of(model, kind, options)[0]


def _config_of(model: nn.Module, kind: type[AnyHead], options: Config) -> tuple[Any, AnyHead | None]:
    """Of a new head, and the one that it would go on with."""
    place, module = head_place(model)
    same = next((part for part in class_heads_of(model) if type(part) is kind and part.config.at == place), None)
    sizes = {"at": place, "width": module.in_features, "classes": module.out_features}
    return kind.Config.model_validate({**_shared(kind, options, same), **sizes}), same


def _shared(kind: type[ClassHead], options: Config, same: ClassHead | None) -> dict[str, Any]:
    """Options that the head and the method have both."""
    names = kind.Config.model_fields.keys() & type(options).model_fields.keys()
    said = {name: getattr(options, name) for name in names}
    if same is None:
        return said
    return {name: said[name] if name in options.model_fields_set else getattr(same.config, name) for name in names}
