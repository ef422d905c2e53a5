"""The tensors of a model in safetensors files, read one at a time: a second model beside one in memory costs a tensor.

Files that ``save_pretrained`` wrote are read as they are. What does not lie in a folder under the names of the model
(an adapter, plain weights of a ResNet, a checkpoint of other names) is loaded once and written out, a file per tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from palimpsest.models.adapter_base import adapter_in
from palimpsest.models.deciding import INDEX, shards_of
from palimpsest.models.parts import ATTRIBUTE
from palimpsest.models.parts.parts_folder import base_in, bears_parts
from palimpsest.models.plain import plain_weights
from palimpsest.models.proportions import tensor_shapes

Tensors = Mapping[str, Tensor]
WEIGHTS = "model.safetensors"


class StoredTensors(Mapping[str, Tensor]):
    """Name -> tensor, on the CPU, as it is stored; read when it is asked for, and kept nowhere."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)

    def __getitem__(self, name: str) -> Tensor:
        """Read one; its file is mapped, so that only its own bytes are."""
        with safe_open(self._files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(self._files)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._files)


def plain_folder(source: str | Path) -> Path:
    """Where the plain weights of a folder are: of a version with parts beside these."""
    folder = Path(source).expanduser()
    return base_in(folder) if folder.is_dir() and bears_parts(folder) else folder


def stored_files(source: str | Path) -> dict[str, Path]:
    """Name of a tensor -> the file that holds it; empty where a source is no plain folder of safetensors."""
    folder = plain_folder(source)
    if not folder.is_dir() or adapter_in(folder) or plain_weights(source) is not None:
        return {}
    names = list(shards_of(folder)) if (folder / INDEX).is_file() else [WEIGHTS]
    files = [folder / name for name in names if (folder / name).is_file()]
    return {tensor: file for file in files for tensor in tensor_shapes(file)}


def once(model: nn.Module) -> dict[tuple[str, ...], Tensor]:
    """Parameters and saved buffers of a model, each once, under all names that it has: tied ones have several.

    Those of parts beside the model are left out: they have an ``alpha`` of their own.
    """
    found: dict[int, tuple[list[str], Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if f"{ATTRIBUTE}." in name:
            continue
        found.setdefault(id(tensor), ([], tensor))[0].append(name)
    return {tuple(names): tensor for names, tensor in found.values()}


def fits(model: nn.Module, names: Collection[str]) -> bool:
    """Are these the names of a model's tensors, every one of them there?"""
    places, given = once(model), frozenset(names)
    known = {name for group in places for name in group}
    return given <= known and all(not given.isdisjoint(group) for group in places)


def holds(model: nn.Module, tensors: Tensors) -> bool:
    """Does a model in memory hold exactly these, as reading them makes them?"""
    if not fits(model, tensors):
        return False
    there = {name: tensor.detach() for group, tensor in once(model).items() for name in group}
    return all(_equal(tensors[name], there[name]) for name in tensors)


def _equal(stored: Tensor, there: Tensor) -> bool:
    return stored.shape == there.shape and torch.equal(stored.to(there.device, there.dtype), there)


def write_out(model: nn.Module, folder: Path) -> StoredTensors:
    """A model's tensors, each in a file of its own, so that no second model is ever in memory.

    Args:
        model: anywhere.
        folder: is made; what lies there under the same names is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, (names, tensor) in enumerate(once(model).items()):
        file = folder / f"{number:05d}.safetensors"
        save_file({names[0]: tensor.detach().cpu().contiguous()}, file)
        files[names[0]] = file
    return StoredTensors(files)
