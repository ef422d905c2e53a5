"""A model of the same kind that has learned nothing: the incompetent teacher of ``bad_teacher``.

Built from the class and configuration, as before any training: no weight of the trained model enters it. Under LoRA it
is the base model's kind, without the adapter.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from palimpsest.errors import ModelError


def fresh_like(model: nn.Module, seed: int) -> nn.Module:
    """A randomly initialised twin: same class, configuration, device and dtype; frozen, in eval mode.

    It is a whole second model in memory.

    Args:
        model: a transformers model (text or images, ours and timm's included), a module of the caller's behind
            ``CustomModule``, or a PEFT model around one.
        seed: decides its weights, the same on any device; the process's random state is left as it was.

    Raises:
        ModelError: a class that cannot be built from a configuration alone.
    """
    from transformers import PreTrainedModel

    from palimpsest.models.custom import CustomModule, made_anew

    inner: Any = getattr(model, "module", model)
    plain: Any = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    if not isinstance(plain, PreTrainedModel):
        raise ModelError(
            f"a fresh twin of {type(plain).__name__} cannot be built; accepted: transformers models, "
            "which are made from their configuration"
        )
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU: no other generator moves
        torch.default_generator.manual_seed(seed)
        is_custom = isinstance(plain, CustomModule)
        twin = made_anew(plain) if is_custom else type(plain)(copy.deepcopy(plain.config))
    trained = next(plain.parameters())
    built: nn.Module = twin.to(trained.device, trained.dtype).eval().requires_grad_(False)
    return built
