"""A class head that answers from several views of a model: what its kinds share.

A pass through the model goes once through every view (``task_views.py``); what enters the head is collected, and after
the last view ``answer`` makes logits of all of it. While a task is taught there is one view, that of the task, and the
logits are those of a cosine classifier with a trained row for each of its classes:

    y_c <- scale · cos(f, w_c)

Shape legend: ... any leading axes, V views, D width of what enters the head, C classes, W outputs of the head.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from palimpsest.method_card import Config
from palimpsest.models.parts.class_head import ClassHead, ClassHeadConfig, class_heads_of, new_head, with_absent
from palimpsest.models.parts.class_means import cosines_to
from palimpsest.models.parts.task_views import acting_alone
from palimpsest.models.places import module_at

OfViews = TypeVar("OfViews", bound="ViewsHead")


class ViewsHeadConfig(ClassHeadConfig):
    """Options of a head with views."""

    tasks: tuple[int, ...] = (0,)
    """The views it goes through, by their tasks; 0 = the model without any."""
    has_rows: bool = True
    """Has it a row for each class that is trained?"""


class ViewsHead(ClassHead):
    """Takes the place of a model's head; kinds give ``answer``."""

    Config: ClassVar[Any] = ViewsHeadConfig
    grows: Collection[str] = ("present_C", "own_C")

    own_C: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("own_C", torch.zeros(config.classes, dtype=torch.long))
        if config.has_rows:
            self.class_rows = nn.Parameter(torch.zeros(config.classes, config.width))
        self.teaches_C: Tensor | None = None  # classes of the task at hand; None = it answers
        self.teaches_task = 0
        self._seen: list[Tensor] | None = None
        self._view: AbstractContextManager[None] | None = None

    def answer(self, features: Float[Tensor, "... V D"]) -> Float[Tensor, "... C"]:
        """Logits of every class from what enters the head in each view; of absent ones they do not matter."""
        raise NotImplementedError

    def rows_said(self, entering: Float[Tensor, "... D"]) -> Float[Tensor, "... C"]:
        """Logits of the trained rows."""
        said: Tensor = self.config.scale * cosines_to(entering, self.class_rows)
        return said

    def probabilities(self, features: Float[Tensor, "... D"]) -> Float[Tensor, "... C"]:
        """Of the classes that are there, by the trained rows."""
        return self.rows_said(features).masked_fill(~self.present_C, -torch.inf).softmax(dim=-1)

    def teach(self, classes_C: Bool[Tensor, "C"] | None, task: int = 0) -> None:
        """Be the plain classifier of a task from now on; of None: answer again.

        Args:
            classes_C: which classes the task has.
            task: whose view is looked at.
        """
        self.teaches_C, self.teaches_task = classes_C, task

    def attach(self, model: nn.Module) -> None:
        """Answer for the head from now on, and see to it that every view is gone through before.

        Raises:
            ModelError: there is no such head.
        """
        super().attach(model)
        like = next(module_at(model, self.config.at, f"part {self.kind!r}").parameters(), next(model.parameters()))
        for parameter in self.parameters():
            parameter.data = parameter.data.to(like.dtype)
        self.holds(model.register_forward_pre_hook(self._begin, with_kwargs=True))
        self.holds(model.register_forward_hook(self._end, always_call=True))

    def take_over(self, other: Self) -> None:
        """Have what another one of this kind has, as far as both reach; what is beyond stays as it is."""
        theirs = other.state_dict()
        with torch.no_grad():
            for name, mine in self.state_dict().items():
                if name in theirs:
                    both = tuple(slice(0, min(s)) for s in zip(mine.shape, theirs[name].shape, strict=True))
                    mine[both].copy_(theirs[name][both])

    @property
    def _views(self) -> tuple[int, ...]:
        tasks: tuple[int, ...] = self.config.tasks
        return tasks if self.teaches_C is None else (self.teaches_task,)

    def _begin(self, model: Any, args: Any, kwargs: Any) -> None:
        """Before a pass: go through all views but the last one, which the pass itself is."""
        if self.is_off or self._seen is not None:
            return
        self._seen = []
        *before, last = self._views
        try:
            for task in before:
                with acting_alone(model, task):
                    model.forward(*args, **kwargs)
        except BaseException:
            self._seen = None
            raise
        self._view = acting_alone(model, last)
        self._view.__enter__()

    def _end(self, _model: nn.Module, _args: Any, _output: Any) -> None:
        view, self._seen, self._view = self._view, None, None
        if view is not None:
            view.__exit__(None, None, None)

    def _after(self, _module: nn.Module, inputs: Any, output: Any) -> Any:
        if self._seen is None:
            return None
        self._seen.append(inputs[0])
        if len(self._seen) < len(self._views):
            return None
        said = self._said(inputs[0], torch.stack(self._seen, dim=-2), output.shape[-1]).to(output.dtype)
        return said if self.alpha == 1 else output + self.alpha * (said - output)

    def _said(self, entering: Tensor, features: Tensor, outputs: int) -> Tensor:
        if self.teaches_C is not None:
            return with_absent(self.rows_said(entering), self.teaches_C.to(entering.device), outputs)
        if not bool(self.present_C.any()):
            return entering.new_zeros(*entering.shape[:-1], outputs)
        return with_absent(self.answer(features.float()), self.present_C, outputs)


def new_views_head(
    model: nn.Module, kind: type[OfViews], options: Config, tasks: tuple[int, ...], fixed: Mapping[str, Any]
) -> OfViews:
    """A head as wide as the model's own; one of the kind that is there already is gone on with, and is off the model.

    Args:
        model: at the weights that a run starts from.
        kind: of the head.
        options: of a method; those of the same names are the head's.
        tasks: its views.
        fixed: options of the head that the method does not leave open.
    """
    there = class_heads_of(model)
    wide = new_head(model, kind, options)
    made = kind(wide.config.model_copy(update={"tasks": tasks, **fixed}))
    for old in there if wide.continues else ():
        made.take_over(old)  # type: ignore[arg-type] # of this kind, or it would not be gone on with
    made.continues = wide.continues
    return made


def unknown_classes(model: Any, classes_C: Bool[Tensor, "C"]) -> bool:
    """Is any of these classes one that no class head of the model answers for?"""
    for head in class_heads_of(model):
        count = len(head.present_C)
        known_C = torch.cat([head.present_C.cpu(), torch.zeros(max(0, len(classes_C) - count), dtype=torch.bool)])
        return bool((classes_C & ~known_C[: len(classes_C)]).any())
    return True
