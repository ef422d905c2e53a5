"""Masked: only the weights that some sets pull at hardest may move, strictly.

Source: the saliency mask of SalUn, Fan et al. 2024, arXiv:2310.12508; with ``against`` the balanced one of
``rules/saliency_scores.py`` (SFR-on, arXiv:2409.19732, and UG-CLU, arXiv:2505.15178).

    m = 1[ |Σ_b ∂ L_b / ∂θ| among the largest ``share`` of all weights ],   b over mini-batches of the sets in ``of``
    m = 1[ F̃ of the sets in ``of`` ≥ gamma · F̃ of those in ``against`` ]    with ``against``, whatever the share
    θ ← m ⊙ update(θ) + (1 − m) ⊙ θ                                         m once, at the weights the run starts from

Weights outside the mask stay bit-identical: momentum, Adam's moments and weight decay cannot move them. What is wholly
outside it is frozen. Running statistics of a batch normalisation are no weights and follow the data as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
from torch import nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.method_card import Config
from palimpsest.models.scope import trainable
from palimpsest.rules.rule import Rule, StepIds
from palimpsest.rules.saliency_batches import MaskSample, batch_losses, masks_of_sets
from palimpsest.rules.saliency_bits import SaliencyMask, restore_masked, top_share
from palimpsest.rules.saliency_scores import gradient_sum

Names = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]


class MaskedConfig(Config):
    """Options of the saliency mask."""

    of: Names = Field(default=("forget",), min_length=1)
    """Sets whose gradients say which weights matter."""
    share: float = Field(default=0.5, gt=0, le=1)
    """Of the weights that may move; SalUn's default is 0.5."""
    against: Names = ()
    """Sets that must stay: a weight moves where it matters at least ``gamma`` times as much to those above as to these,
    and ``share`` says nothing. Empty: the largest share."""
    gamma: float = Field(default=1.0, ge=0)
    """Of ``against``; larger keeps fewer weights."""
    examples: int = Field(default=4096, ge=1)
    """At most so many examples of each set are looked at."""
    batch: int = Field(default=8, ge=1)
    """Examples per mini-batch of the gradient."""

    @model_validator(mode="after")
    def _apart(self) -> MaskedConfig:
        if both := sorted({*self.of} & {*self.against}):
            raise ValueError(f"{both[0]} is in of and in against; a set either changes or stays")
        return self


def saliency_of(model: nn.Module, sets: Mapping[str, ExampleSet], config: MaskedConfig) -> SaliencyMask:
    """The mask at the weights at hand; all parameters that may move are covered."""
    if config.against:
        changing, staying = ({name: sets[name] for name in names} for names in (config.of, config.against))
        sample = MaskSample(config.examples, config.batch)
        return next(iter(masks_of_sets(model, changing, staying, gamma=config.gamma, sample=sample).masks.values()))
    sampled = (batch_losses(model, sets[n], limit=config.examples, batch_size=config.batch) for n in config.of)
    return top_share(gradient_sum(model, [loss for losses in sampled for loss in losses]), config.share)


class Masked(Rule):
    """A strict mask that is made once."""

    Config = MaskedConfig
    use_when = "only what the forget set depends on may move, so that the rest is kept"
    place = "holds"

    @classmethod
    def reads(cls, config: MaskedConfig) -> tuple[str, ...]:
        """The sets that are compared."""
        return (*config.of, *config.against)

    @classmethod
    def decides(cls, config: Any) -> str:
        """Two masks of the same sets say two things of one weight; those of different sets both hold."""
        return f"which weights matter to {' and '.join(sorted(config.of))}"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Build the mask; freeze the parameters that are wholly outside it."""
        self.mask = saliency_of(model, sets, self.config)
        for name, parameter in trainable(model).items():
            parameter.requires_grad_(bool(self.mask.mask(name).any()))

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Mask the gradient."""
        self.mask.apply_(model)

    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> AbstractContextManager[None]:
        """Put the weights outside the mask back."""
        return restore_masked(model, self.mask)


RULE = Masked
