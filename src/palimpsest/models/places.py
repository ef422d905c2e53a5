"""Places in a model by name: a module, and the feed-forward network of every block, found by structure.

The place of a feed-forward network is the module whose output is the network's own, before anything is added to it:

| layout                                            | place                                                       |
|---------------------------------------------------|-------------------------------------------------------------|
| Llama, GPT-2, GPT-NeoX, Qwen, Gemma, Phi, experts | the block's ``mlp``, ``feed_forward``, ``block_sparse_moe``  |
| OPT, XGLM, BioGPT                                 | the block's second linear layer ``fc2``                     |
| BLOOM, MPT, BERT: the network adds the residual   | the linear layer in it that its output leaves               |
| T5                                                | ``DenseReluDense`` of the block's last layer                |
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from palimpsest.errors import ModelError
from palimpsest.printed import short

if TYPE_CHECKING:
    from torch import nn

_NETWORKS = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "DenseReluDense", "mlp_block", "ff")
"""What libraries call the feed-forward network of a block."""
_SECOND = ("fc2", "wo", "lin2")
"""What they call its second linear layer where the block holds the two itself."""
_RESIDUAL = frozenset({"residual", "input_tensor"})
"""Arguments of a network that adds what came in to what it says."""


def module_at(model: Any, place: str, who: str) -> nn.Module:
    """The module of a name.

    Args:
        model: it is in.
        place: its name, as ``named_modules`` gives it.
        who: asks, for the error.

    Raises:
        ModelError: there is none of that name; says the closest one.
    """
    named = dict(model.named_modules())
    if place and place in named:
        module: nn.Module = named[place]
        return module
    close = get_close_matches(place[:200], [name for name in named if name], n=1, cutoff=0.3)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ModelError(
        f"{who}: a {type(model).__name__} has no module {short(place)}; {hint}accepted: a name "
        "that its named_modules() gives"
    )


def name_of_module(model: Any, module: Any) -> str:
    """The name by which a model has a module.

    Raises:
        ModelError: it is not in the model.
    """
    found: str | None = next((name for name, one in model.named_modules() if name and one is module), None)
    if found is None:
        raise ModelError(
            f"a {type(model).__name__} does not name its {type(module).__name__}; no part can be put there"
        )
    return found


def ffn_outputs(model: Any, at: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the places where the feed-forward network of every block has its output, first block first.

    Args:
        model: a transformer.
        at: names that are given instead; each must be a module of the model.

    Raises:
        ModelError: a given name is no module, or no network can be told in some block; names the option ``at``.
    """
    if at:
        for place in at:
            module_at(model, place, "option at")
        return tuple(at)
    found = [_network_in(name, block) or _untold(model, type(block).__name__) for name, block in _blocks_of(model)]
    return tuple(found) or (_untold(model, "stack of blocks"),)


def _untold(model: Any, what: str) -> str:
    """Refuse a model in which no place can be told.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        f"the feed-forward networks of a {type(model).__name__} are not where they usually are (looked for in its "
        f"{what}); name the modules after which something is to be added with the option at, e.g. [model.layers.0.mlp]"
    )


def _blocks_of(model: Any) -> list[tuple[str, nn.Module]]:
    """Name and module of every block: the members of the outermost lists of modules that hold attention or a network.

    An encoder and a decoder have a list each; both count, in the order of the model.
    """
    from torch import nn

    stacks: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in stacks)
        if isinstance(module, nn.ModuleList) and len(module) and not inside and _is_stack(name, module):
            stacks.append(name)
    return [(f"{name}.{i}", block) for name in stacks for i, block in enumerate(model.get_submodule(name))]


def _is_stack(name: str, modules: Any) -> bool:
    """Blocks have children of several kinds; a list of plain layers or of our own parts is no stack."""
    return not name.startswith("palimpsest_parts") and all(len(list(m.children())) > 1 or _is_t5(m) for m in modules)


def _is_t5(block: nn.Module) -> bool:
    return [name for name, _ in block.named_children()] == ["layer"]


def _network_in(name: str, block: nn.Module) -> str | None:
    """The place in one block; None where none can be told."""
    children = dict(block.named_children())
    for known in _NETWORKS:
        if known in children:
            return _before_residual(f"{name}.{known}", children[known])
    for known in _SECOND:
        if known in children:
            return f"{name}.{known}"
    if "output" in children and "intermediate" in children:
        return _before_residual(f"{name}.output", children["output"])
    if "layer" in children:
        return next(_networks_of_layers(f"{name}.layer", children["layer"]), None)
    return None


def _networks_of_layers(name: str, layers: Any) -> Iterator[str]:
    """T5: a block is a list of layers, and the last of them holds the network."""
    for i, layer in reversed(list(enumerate(layers))):
        place = _network_in(f"{name}.{i}", layer)
        if place is not None:
            yield place


def _before_residual(name: str, network: nn.Module) -> str:
    """The network itself, or the linear layer in it that its output leaves where it adds the residual by itself."""
    if not _RESIDUAL & set(inspect.signature(network.forward).parameters):
        return name
    linear = [inner for inner, module in network.named_children() if getattr(module, "weight", None) is not None
              and module.weight.ndim == 2]  # fmt: skip
    return f"{name}.{linear[-1]}" if linear else name
