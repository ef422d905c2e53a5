"""Multi-label mapping: each class of a new task is the mean of several classes of the model.

    h_j = (1/m) Σ_{s in S_j} F_s,     S_j disjoint          logits_j = log h_j

Source: Tsai, Chen, Ho 2020 (BAR); known from notes on it. The groups are stated one by one: the released code reshapes
one list of labels, so that its classes average members of each other's.

Departs from the paper: the frequency map takes the labels that are most typical of a class *beside the others*, by the
difference of mean probabilities, because labels that the model says of everything tell nothing. Classes of the model
beyond those of the task are there and as good as impossible.

Shape legend: B images, N examples, K classes of the model, J classes of the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.method_card import Config
from palimpsest.models.parts.part import Part

IMPOSSIBLE = -1e4
"""Logit of a class that the task does not have."""
Groups = tuple[tuple[int, ...], ...]


class LabelMapConfig(Config):
    """Options of a label map."""

    classes: int = Field(ge=2)
    """Of the model."""
    groups: Groups = Field(min_length=2)
    """For each class of the task the classes of the model that stand for it."""

    @model_validator(mode="after")
    def _are_disjoint(self) -> LabelMapConfig:
        named = [label for group in self.groups for label in group]
        if not all(self.groups) or len(set(named)) < len(named):
            raise ValueError("each class of the task needs labels of its own: none may be empty, none named twice")
        if min(named) < 0 or max(named) >= self.classes:
            raise ValueError(f"labels are 0 to {self.classes - 1}")
        if len(self.groups) > self.classes:
            raise ValueError("more classes of the task than labels of the model")
        return self


def random_groups(classes: int, wanted: int, each: int, seed: int) -> Groups:
    """Groups drawn without looking at anything.

    >>> sorted(label for group in random_groups(6, 2, 3, seed=0) for label in group)
    [0, 1, 2, 3, 4, 5]
    """
    drawn = torch.randperm(classes, generator=torch.Generator().manual_seed(seed)).tolist()
    return tuple(tuple(sorted(drawn[j * each : (j + 1) * each])) for j in range(wanted))


def frequent_groups(probs_NK: Float[Tensor, "N K"], label_N: Int[Tensor, "N"], wanted: int, each: int) -> Groups:
    """Groups by what the model says of the examples of each class: in turns each takes its most typical free label.

    Args:
        probs_NK: of the model, for examples of the task.
        label_N: their classes, 0 to ``wanted`` - 1; every class occurs.
        wanted: J.
        each: m, labels of a group.

    By hand: class 0 is mostly called 1, class 1 mostly 0, and both often 2, which nobody takes before it must.

    >>> probs = torch.tensor([[0.1, 0.5, 0.4, 0.0], [0.5, 0.0, 0.4, 0.1]])
    >>> frequent_groups(probs, torch.tensor([0, 1]), wanted=2, each=2)
    ((1, 2), (0, 3))
    """
    mean_JK = torch.stack([probs_NK[label_N == j].double().mean(0) for j in range(wanted)])
    others_JK = (mean_JK.sum(0, keepdim=True) - mean_JK) / max(1, wanted - 1)
    typical_JK = mean_JK - others_JK
    free, groups = set(range(probs_NK.shape[1])), [list[int]() for _ in range(wanted)]
    for _ in range(each):
        for j, group in enumerate(groups):
            best = max(sorted(free), key=lambda label, j=j: float(typical_JK[j, label]))  # type: ignore[misc]
            free.remove(best)
            group.append(best)
    return tuple(tuple(sorted(group)) for group in groups)


def mapped_log_probs(logits_BK: Float[Tensor, "B K"], map_JK: Float[Tensor, "J K"]) -> Float[Tensor, "B J"]:
    """Log h_j.

    >>> said = torch.tensor([[0.2, 0.6, 0.2]]).log()
    >>> mapped_log_probs(said, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])).exp()
    tensor([[0.4000, 0.2000]])
    """
    h_BJ = logits_BK.float().softmax(-1) @ map_JK.float().T
    return h_BJ.clamp_min(torch.finfo(torch.float32).tiny).log()


class LabelMap(Part):
    """A fixed map; it learns nothing."""

    Config = LabelMapConfig
    kind = "label_map"
    folds_when_saved = False
    of_images = True

    map_JK: Tensor

    def __init__(self, config: LabelMapConfig) -> None:
        super().__init__(config)
        map_JK = torch.zeros(len(config.groups), config.classes)
        for j, group in enumerate(config.groups):
            map_JK[j, list(group)] = 1 / len(group)
        self.register_buffer("map_JK", map_JK)

    @classmethod
    def example(cls, at: str, width: int) -> LabelMapConfig:
        """Two classes of two."""
        return LabelMapConfig(classes=2, groups=((1,), (0,)))

    @property
    def places(self) -> tuple[str, ...]:
        """None within the model."""
        return ()

    def attach(self, model: nn.Module) -> None:
        """Act on what the model says."""
        self.to(next(model.parameters()).device)
        self.holds(model.register_forward_hook(self._said))

    def on_logits(self, logits_BK: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Logits of the task, as wide as those of the model."""
        said_BJ = mapped_log_probs(logits_BK, self.map_JK)
        rest = said_BJ.new_full((len(said_BJ), logits_BK.shape[1] - said_BJ.shape[1]), IMPOSSIBLE)
        return torch.cat([said_BJ, rest], 1)

    def _said(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """A forward hook."""
        logits = getattr(output, "logits", None)
        if self.is_off or not isinstance(logits, Tensor):
            return None
        if logits.shape[-1] != self.config.classes:
            raise ModelError(
                f"part 'label_map' is for {self.config.classes} classes and the model has {logits.shape[-1]}; "
                "accepted: the model that it was made for"
            )
        said = self.on_logits(logits)
        output.logits = said if self.alpha == 1 else logits + self.alpha * (said - logits)
        return output


def check_room(classes: int, wanted: int, each: int) -> Sequence[str]:
    """Why a map of so many labels for each class cannot be; nothing where it can.

    >>> check_room(10, 2, 6)
    ['2 classes of 6 labels each need 12, and the model has 10; accepted: at most 5 each']
    """
    if wanted * each <= classes:
        return []
    most = classes // wanted
    cure = f"at most {most} each" if most else "a task with fewer classes than the model has labels"
    return [
        f"{wanted} classes of {each} labels each need {wanted * each}, and the model has {classes}; accepted: {cure}"
    ]


PART = LabelMap
