"""Tensors of an unfinished run with their digest in the same file: what was damaged since is not gone on from."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from palimpsest.durable import check_held_still, put
from palimpsest.models.scope import tensor_digest
from palimpsest.records import digest

_KEY = "sha256"
_MANY = 2**26  # bytes; below that threads cost more than they save
_NOTHING: Mapping[str, str] = MappingProxyType({})


def with_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] = _NOTHING) -> dict[str, str]:
    """Metadata for a safetensors file, with the digest of all that will be in it.

    Args:
        tensors: name -> tensor, as they are saved.
        metadata: what else is said of them.
    """
    return {**metadata, _KEY: _digest_of(tensors, metadata)}


def save_sealed(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] = _NOTHING) -> None:
    """Write a safetensors file with its digest, for its owner alone; on return it is on the disk, the old or the new.

    Args:
        tensors: name -> tensor, on any device.
        path: the file, in a folder that is there.
        metadata: what else is said of them.

    Raises:
        LostFolder: the folder was held and is no longer there.
    """
    check_held_still(path)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary = path.with_suffix(".tmp")
    save_file(kept, temporary, metadata=with_digest(kept, metadata))
    put(temporary, path, private=True)


def is_sound(file: Path) -> bool:
    """Is a file all that was saved under ``with_digest``? One that cannot be read is not."""
    try:
        with safe_open(file, framework="pt") as opened:
            said = dict(opened.metadata() or {})
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        return bool(said.pop(_KEY, None) == _digest_of(tensors, said))
    except MemoryError:  # says nothing of the file, which whoever is told "damaged" would remove
        raise
    except Exception:  # which ones a damaged file raises no list tells
        return False


def damage_of(file: Path) -> str:
    """What is wrong with such a file, in words; "" where it is sound, or not there at all."""
    return f"{file.name} is damaged" if file.is_file() and not is_sound(file) else ""


def _digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    names = sorted(tensors)
    if sum(tensor.nbytes for tensor in tensors.values()) < _MANY:
        found = [tensor_digest(tensors[name]) for name in names]
    else:  # hashing lets other threads run
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda name: tensor_digest(tensors[name]), names))
    said = [
        [name, str(tensors[name].dtype), list(tensors[name].shape), sha] for name, sha in zip(names, found, strict=True)
    ]
    return digest([said, dict(metadata)])
