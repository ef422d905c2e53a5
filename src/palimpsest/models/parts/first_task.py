"""What may be tuned on a first task, as a part in the view of that task: APER's four ways, and a whole second model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from palimpsest.errors import ModelError
from palimpsest.models.activations import block_names
from palimpsest.models.parts.block_adapter import new_adapter
from palimpsest.models.parts.block_prompts import BlockPrompts, BlockPromptsConfig
from palimpsest.models.parts.class_head import head_place
from palimpsest.models.parts.scale_shift import ScaleShift, ScaleShiftConfig, scaled_layers
from palimpsest.models.parts.task_views import TaskPart
from palimpsest.models.parts.tuned_weights import TunedWeights, TunedWeightsConfig, tuned_tensors

Tune = Literal["finetune", "ssf", "vpt_shallow", "vpt_deep", "adapter"]


def first_part(model: nn.Module, tune: Tune, at: Sequence[str], rank: int, tokens: int) -> TaskPart:
    """The part of task 1.

    Args:
        model: a classifier.
        tune: what moves.
        at: modules behind which adapters go; beside all networks when empty.
        rank: of an adapter.
        tokens: of prompts.

    Raises:
        ModelError: the model has no such places.
    """
    head = head_place(model)[0]
    if tune == "adapter":
        return new_adapter(model, at, 1, rank, 0.1)
    if tune == "ssf":
        return ScaleShift(ScaleShiftConfig(layers=scaled_layers(model, head)))
    if tune == "finetune":
        return TunedWeights(TunedWeightsConfig(tensors=tuned_tensors(model, head)))
    return BlockPrompts(_prompts(model, tokens, deep=tune == "vpt_deep"))


def _prompts(model: nn.Module, tokens: int, *, deep: bool) -> BlockPromptsConfig:
    width, blocks = getattr(model.config, "hidden_size", None), block_names(model)
    if width is None or not blocks:
        raise ModelError(
            f"a {type(model).__name__} has no tokens that go from block to block, so there is no place for prompts; "
            "accepted: transformers, or another aper.tune (ssf, finetune)"
        )
    return BlockPromptsConfig(blocks=blocks, width=int(width), tokens=tokens, deep=deep)
