"""PEFT adapters, laid on their base and merged into it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from palimpsest.errors import ModelError
from palimpsest.models.parts import attach, detach
from palimpsest.models.text_config import text_config
from palimpsest.models.whole import check_whole
from palimpsest.untrusted import refusing


def adapted(folder: Path, base: Any, *, beside: bool = False) -> Any:
    """A model with a LoRA adapter merged into it; every tensor of the adapter's file must find its place.

    Args:
        folder: of the adapter.
        base: the model it is laid on; its vocabulary stays what it is. Parts that it bears stay on it.
        beside: keep the adapter beside the weights, as the newest part.

    Raises:
        ModelError: the adapter is not one of this base.
    """
    parts = detach(base)  # hooks go on the layers that are there in the end
    with laid_on(base, folder) as model:
        pass
    merged = _with_part(model) if beside else merged_whole(model)
    attach(merged, [*parts, *detach(merged)])
    merged.name_or_path = str(folder)  # a further adapter lies on this one, not on the base of both
    return merged


@contextmanager
def laid_on(base: Any, folder: Path) -> Iterator[Any]:
    """A model with an adapter beside its weights, as PEFT has it; the block is about it, and what fails there is said.

    Args:
        base: of the adapter, without parts.
        folder: of the adapter.

    Raises:
        ModelError: the adapter cannot be loaded, or is not one of this base.
    """
    from peft import PeftModel

    with (
        refusing(lambda reason: ModelError(f"model {folder}: its adapter cannot be loaded: {reason}")),
        quiet_about_ties(),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Found missing adapter keys")  # refused below, in our words
        model = PeftModel.from_pretrained(base, folder, trust_remote_code=False, use_safetensors=True)
        # once more: the first call does not tell what it left out
        found = model.load_adapter(folder, "default", trust_remote_code=False, use_safetensors=True)
        yield model
    check_whole(folder, base, found.missing_keys, found.unexpected_keys)


def _with_part(model: Any) -> Any:
    from palimpsest.models.parts.lora import kept_beside

    return kept_beside(model)


@contextmanager
def quiet_about_ties() -> Iterator[None]:
    """PEFT warns that an adapter on a tied layer is hard to merge; ``merged_whole`` does it.

    It also asks transformers 5.23 for a property under its old name.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Model (has|with) `tie_word_embeddings=True`")
        yield


def merged_whole(model: Any) -> Any:
    """A PEFT model folded into one plain model that answers alike.

    A weight that an adapted layer shares with another layer (an output head tied to the embedding) becomes its own
    first: folded in, the adapter would change what the other one does, too.
    """
    shared = _shared_weights(model)
    for layer in shared:
        layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=layer.weight.requires_grad)
    if shared:
        _untied(model.get_base_model())
    return model.merge_and_unload()


def _shared_weights(model: nn.Module) -> list[Any]:
    """Base layers under adapters whose weight another module holds, too."""
    holders: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), set()).add(id(module))
    bases = [m.base_layer for m in model.modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")]
    return [base for base in bases if len(holders.get(id(getattr(base, "weight", None)), ())) > 1]


def _untied(model: Any) -> None:
    """Say in the config, and wherever the class looks while saving, that head and embedding are two."""
    configs: list[Any] = [model.config, text_config(model)]
    for config in configs:
        config.tie_word_embeddings = False
    if hasattr(model, "all_tied_weights_keys"):
        model.all_tied_weights_keys = {}
