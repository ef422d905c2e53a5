"""Where prompts go in a transformer: its blocks, the attention of each, and where its tokens are read at the end.

| layout                    | blocks            | attention         | last module with tokens |
|---------------------------|-------------------|-------------------|-------------------------|
| ViT, DeiT, DINOv2         | ``layers``        | ``attention``     | ``layernorm``           |
| BERT, RoBERTa, MiniLM     | ``encoder.layer`` | ``attention.self``| the last block          |
| DistilBERT                | ``layer``         | ``attention``     | the last block          |
| Llama for classification  | ``layers``        | ``self_attn``     | ``norm``                |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from palimpsest.errors import ModelError
from palimpsest.models.activations import block_names
from palimpsest.models.places import module_at

_KEYS = ("k_proj", "key", "k_lin")
"""What libraries call the projection to keys."""
_LAST = ("layernorm", "norm", "final_layer_norm")
"""What they call the norm behind the last block."""
_WANTED = "accepted: a transformer as ViT, DeiT, BERT, RoBERTa and DistilBERT are laid out"


def encoder_blocks(model: Any) -> tuple[str, ...]:
    """Names of the blocks, first to last.

    Raises:
        ModelError: it has none with an attention in it.
    """
    found = tuple(name for name in block_names(model) if not name.startswith("palimpsest_parts"))
    if not found or any(_attention_in(model.get_submodule(name)) is None for name in found):
        raise ModelError(f"a {type(model).__name__} has no blocks with an attention that takes prompts; {_WANTED}")
    return found


def attention_places(model: Any) -> tuple[str, ...]:
    """Name of the attention of every block."""
    return tuple(f"{name}.{_attention_in(model.get_submodule(name))}" for name in encoder_blocks(model))


def _attention_in(block: nn.Module) -> str | None:
    """Name, in a block, of the first module that has a projection to keys of its own."""
    named = ((name, module) for name, module in block.named_modules() if name)
    return next((name for name, module in named if any(hasattr(module, key) for key in _KEYS)), None)


def key_width(model: Any, place: str) -> int:
    """Numbers of a key, over all heads, of an attention."""
    module = module_at(model, place, "prompts")
    layer = next(getattr(module, key) for key in _KEYS if hasattr(module, key))
    return int(layer.out_features)


def hidden_width(model: Any) -> int:
    """Numbers of a token between the blocks.

    Raises:
        ModelError: it has no blocks with an attention in it.
    """
    encoder_blocks(model)  # refuses a model without tokens
    config = model.config
    return int(getattr(config, "hidden_size", 0) or config.dim)


def attention_at(model: Any, place: str, who: str) -> nn.Module:
    """The attention of a name; a projection stands for the attention that it is in.

    Raises:
        ModelError: there is no module of that name.
    """
    module = module_at(model, place, who)
    return model.get_submodule(place.rpartition(".")[0]) if isinstance(module, nn.Linear) else module


def last_with_tokens(model: Any) -> str:
    """Name of the module behind which the class is read from the tokens: the norm after the last block, or that."""
    blocks = encoder_blocks(model)
    stack = blocks[-1].rpartition(".")[0]
    beside = stack.rpartition(".")[0]
    named = dict(model.named_modules())
    return next((f"{beside}.{name}" for name in _LAST if f"{beside}.{name}" in named), blocks[-1])


def reads_last(model: Any) -> bool:
    """Is the class read at the last token of a text, and not at the first?"""
    return hasattr(model, "score")


def layers_in(numbers: Sequence[int], depth: int) -> tuple[int, ...]:
    """Those of some numbers of blocks that a model has.

    >>> layers_in((2, 3, 4), 4)
    (2, 3)
    """
    return tuple(number for number in numbers if 0 <= number < depth)
