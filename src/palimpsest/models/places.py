"""Where in a model something can be attached: the layer of each block that writes what its feed-forward network says."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from palimpsest.errors import ModelError

_LOOKS_BACK = ("attn", "attention")


def ffn_outputs(model: nn.Module) -> tuple[str, ...]:
    """Names of the last linear layer of every block's feed-forward network, first block first.

    LlamaMLP's down_proj, GPT2MLP's c_proj, T5LayerFF's wo, BertOutput's dense: the last linear layer of the block,
    outside its attention, that is as wide as the model.

    Raises:
        ModelError: no block has one (experts that are fused into one tensor, a plain convolutional net).
    """
    found = [name for block, layers in _blocks(model) if (name := _last_linear(block, layers)) is not None]
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no block whose feed-forward network ends in a linear layer; accepted: "
            "transformers such as Llama, GPT-2, GPT-NeoX, OPT, T5, BERT or ViT; choose a method that changes the "
            "model's own weights"
        )
    return tuple(found)


def linear_widths(layer: nn.Module) -> tuple[int, int] | None:
    """Width in and out of a linear layer, GPT-2's transposed ones included; None for any other layer."""
    weight = getattr(layer, "weight", None)
    if isinstance(layer, nn.Linear) and weight is not None:
        return int(weight.shape[1]), int(weight.shape[0])
    if type(layer).__name__ == "Conv1D" and weight is not None:
        return int(weight.shape[0]), int(weight.shape[1])
    return None


def _blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The blocks of all stacks: children of module lists that lie in no other one."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    for name in lists:
        if not any(name.startswith(f"{other}.") for other in lists):
            for number, block in model.get_submodule(name).named_children():
                yield f"{name}.{number}", block


def _last_linear(prefix: str, block: nn.Module) -> str | None:
    linear = [
        (name, widths[1])
        for name, layer in block.named_modules()
        if (widths := linear_widths(layer)) is not None and not any(word in name.lower() for word in _LOOKS_BACK)
    ]
    width = _width(block)
    fitting = [name for name, out in linear if width is None or out == width]
    return f"{prefix}.{fitting[-1]}" if fitting else None


def _width(block: nn.Module) -> int | None:
    """Width of the residual stream, as the block's norms say it."""
    for name, module in block.named_modules():
        weight = getattr(module, "weight", None)
        if "norm" in type(module).__name__.lower() and weight is not None and "." not in name:
            return int(weight.shape[0])
    return None
