"""Partial: a step moves only a share of the weights of every tensor, strictly.

Source: the selection S of layer-wise partial machine unlearning (2024), its partial label flipping and partial
optimisation: any objective, one share of each layer.

    θ^l ← S_t^l ⊙ update(θ^l) + (1 − S_t^l) ⊙ θ^l      |S_t^l| = round(keep · n), n weights in tensor l, t steps so far
    random   S_t^l uniform among all choices of that many (of each stretch of a large tensor), drawn by (seed, l, t)
    cyclic   S_t^l = {(t |S| + i) mod n, i < |S|}: a window that goes round
    topk     S_t^l = the largest |gradient| of this step

Weights outside S stay bit-identical: momentum, Adam's moments and weight decay cannot move them. t counts the updates
of the run, those of repair too; it goes back where a controlled run takes steps back.

Departs from the paper: which rule and which ratios it used is not public; all three are here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.data.draws import places
from palimpsest.errors import ModelError
from palimpsest.method_card import Config
from palimpsest.models.scope import trainable
from palimpsest.rules.rule import Rule, StepIds
from palimpsest.rules.saliency_bits import SaliencyMask, restore_masked

PartialChoice = Literal["random", "cyclic", "topk"]
_STRETCH = 1 << 20  # weights that are permuted at once: 8 bytes each


class PartialConfig(Config):
    """Options of the partial step."""

    rule: PartialChoice = "random"
    """How the weights of a step are chosen: "random", "cyclic" or "topk" of the gradient."""
    keep: float = Field(default=0.1, gt=0, le=1)
    """Share of the weights of every tensor that a step moves."""
    layers: dict[str, float] = Field(default_factory=dict)
    """Regular expression searched in the names of parameters -> their own share, 0 to 1; the first that fits holds."""
    every: int = Field(default=1, ge=0)
    """Steps that a choice holds; 0 = the whole run. Of "topk" always 1."""

    @field_validator("layers")
    @classmethod
    def _are_patterns(cls, layers: dict[str, float]) -> dict[str, float]:
        for pattern, share in layers.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
            if not 0 <= share <= 1:
                raise ValueError(f"share {share} of {pattern!r}; accepted: 0 to 1")
        return layers

    @model_validator(mode="after")
    def _topk_is_of_a_step(self) -> PartialConfig:
        if self.rule == "topk" and self.every != 1:
            raise ValueError("topk is chosen by the gradient of each step; leave every out, or choose random or cyclic")
        return self


def count_of(share: float, numel: int) -> int:
    """Weights of a tensor that a step moves: the nearest number, and at least one where the share is not 0.

    >>> count_of(0.1, 25), count_of(0.1, 2), count_of(0.0, 25)
    (2, 1, 0)
    """
    return max(1, round(share * numel)) if share and numel else 0


def drawn(count: int, numel: int, seed: int, name: str, turn: int) -> Bool[Tensor, "N"]:
    """``count`` of ``numel`` places, by (seed, name, turn) alone; of a large tensor as many of every stretch."""
    kept = torch.zeros(numel, dtype=torch.bool)
    for start in range(0, numel, _STRETCH):
        size = min(_STRETCH, numel - start)
        here = count * (start + size) // numel - count * start // numel
        kept[start + torch.from_numpy(places(size, seed, f"partial/{name}/{start}", turn)[:here])] = True
    return kept


def window(count: int, numel: int, turn: int) -> Bool[Tensor, "N"]:
    """The ``turn``-th window of ``count`` places, going round.

    >>> window(2, 5, 2).int().tolist()
    [1, 0, 0, 0, 1]
    """
    kept = torch.zeros(numel, dtype=torch.bool)
    kept[(turn * count + torch.arange(count)) % max(1, numel)] = True
    return kept


def largest(gradient_N: Float[Tensor, "N"] | None, count: int, numel: int) -> Bool[Tensor, "N"]:
    """The ``count`` largest absolute values; none without a gradient."""
    if gradient_N is None:
        return torch.zeros(numel, dtype=torch.bool)
    kept = torch.zeros(numel, dtype=torch.bool, device=gradient_N.device)
    kept[gradient_N.abs().topk(count).indices] = True
    return kept


class Partial(Rule):
    """A strict mask that is made for every step."""

    Config = PartialConfig
    use_when = "a step that unlearns wrecks too much: a tenth of every layer at a time keeps more of the rest"
    place = "holds"

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._taken = 0
        self._mask: SaliencyMask | None = None

    @classmethod
    def decides(cls, config: Any) -> str:
        """One share of a tensor can move."""
        return "which share of every tensor a step moves"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Find the share of every tensor; freeze those of which nothing moves.

        Raises:
            ModelError: an expression of ``layers`` fits no parameter.
        """
        parameters = trainable(model)
        for pattern in self.config.layers:
            if not any(re.search(pattern, name) for name in parameters):
                first = ", ".join([*parameters][:5])
                raise ModelError(f"partial.layers: {pattern!r} fits no parameter that may move; the first are {first}")
        self._counts = {name: count_of(self._share(name), p.numel()) for name, p in parameters.items()}
        for name, parameter in parameters.items():
            parameter.requires_grad_(self._counts[name] > 0)

    def _share(self, name: str) -> float:
        fitting: Iterator[float] = (share for pattern, share in self.config.layers.items() if re.search(pattern, name))
        return next(fitting, float(self.config.keep))

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Choose, and mask the gradient."""
        self._mask = self._chosen(model)
        self._mask.apply_(model)

    @contextmanager
    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> Iterator[None]:
        """Put the weights that were not chosen back."""
        mask = self._chosen(model) if self._mask is None else self._mask
        self._mask = None
        with restore_masked(model, mask):
            yield
        self._taken += 1

    def _chosen(self, model: nn.Module) -> SaliencyMask:
        """The mask of the step at hand."""
        return SaliencyMask.of((name, self._kept(name, p).view(p.shape)) for name, p in trainable(model).items())

    def _kept(self, name: str, parameter: nn.Parameter) -> Bool[Tensor, "N"]:
        config, count, numel = self.config, self._counts[name], parameter.numel()
        if config.rule == "topk":
            return largest(None if parameter.grad is None else parameter.grad.detach().flatten(), count, numel)
        turn = self._taken // config.every if config.every else 0
        if config.rule == "cyclic":
            return window(count, numel, turn)
        return drawn(count, numel, self.setting.seed, name, turn)

    def state(self) -> dict[str, Tensor]:
        """How many steps were taken: what is drawn follows from it."""
        return {"taken": torch.tensor(self._taken)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._taken = int(state.get("taken", torch.tensor(0)))
        self._mask = None


RULE = Partial
