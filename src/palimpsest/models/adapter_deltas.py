"""A LoRA adapter as the tensors that it makes of its base: W + ΔW for the layers it adapts, and nothing for the others.

ΔW = scale · B A is made when it is asked for; of the base's weights no copy is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from palimpsest.errors import UsageError
from palimpsest.models.adapter_base import adapter_in, base_of
from palimpsest.models.adapters import laid_on
from palimpsest.models.sources import source_digest
from palimpsest.models.stored import Tensors

_MORE_THAN_DELTAS = ("use_dora", "modules_to_save", "target_parameters", "trainable_token_indices", "layer_replication",
                     "lora_bias", "alora_invocation_tokens")  # fmt: skip


class AdapterTensors(Mapping[str, Tensor]):
    """Name of an adapted weight -> the weight with the adapter folded in."""

    def __init__(self, layers: Mapping[str, Any], base: Tensors) -> None:
        self._layers, self._base = dict(layers), base

    def __getitem__(self, name: str) -> Tensor:
        """The base's weight, read, and what the adapter adds to it."""
        delta: Tensor = self._layers[name].get_delta_weight("default")
        return self._base[name].to(delta.device, delta.dtype) + delta.detach()

    def __iter__(self) -> Iterator[str]:
        """Names of the adapted weights."""
        return iter(self._layers)

    def __len__(self) -> int:
        """How many weights it adapts."""
        return len(self._layers)


def only_adds(folder: str | Path, base: str | Path, revision: str | None = None) -> bool:
    """Is a folder a LoRA adapter of this very base that does nothing but add to its weights?

    Args:
        folder: of the adapter; of anything else the answer is no.
        base: folder or Hub name.
        revision: commit of a Hub name.
    """
    place = Path(folder).expanduser()
    config = adapter_in(place) if place.is_dir() else {}
    plain = config.get("peft_type") == "LORA" and config.get("bias", "none") == "none"
    if not plain or any(config.get(name) for name in _MORE_THAN_DELTAS):
        return False
    try:
        return source_digest(*base_of(place, revision)) == source_digest(base, revision)
    except UsageError:
        return False


def adapter_tensors(folder: Path, model: Any, own: Tensors) -> AdapterTensors:
    """What an adapter makes of its base.

    Args:
        folder: of an adapter that only adds.
        model: its base in memory; as it was afterwards.
        own: the base's tensors as they are stored.

    Raises:
        ModelError: it does not fit the base.
    """
    with laid_on(model, folder) as wrapped:
        names = {id(parameter): name for name, parameter in wrapped.named_parameters() if ".base_layer." in name}
        layers = [m for m in wrapped.modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")]
        named = {_own_name(names[id(layer.base_layer.weight)]): layer for layer in layers}
        wrapped.unload()
    return AdapterTensors(named, own)


def _own_name(name: str) -> str:
    """The name of a weight in the base.

    >>> _own_name("base_model.model.model.layers.0.mlp.up_proj.base_layer.weight")
    'model.layers.0.mlp.up_proj.weight'
    """
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
