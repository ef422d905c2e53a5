"""Files of federated rounds: tensors and JSON that say who wrote them, so that a change of one shows.

Every file bears a seal, an HMAC-SHA256 with the owner's key over all that is in it. Who has the folder and not the key
can delete from it, and cannot change a number in it unseen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from palimpsest.companions.marks import KEY_VARIABLE, MarkKey, key_file
from palimpsest.durable import check_held_still, put
from palimpsest.errors import ModelError
from palimpsest.files import write_atomic
from palimpsest.models.scope import tensor_digest
from palimpsest.untrusted import parse_json

_SAID, _SEAL = "said", "seal"


def round_folder(number: int) -> str:
    """Folder of a round, counted from 0.

    >>> round_folder(7)
    'round-0007'
    """
    return f"round-{number:04d}"


def seal_of(value: Any, key: MarkKey) -> str:
    """The seal of a JSON value."""
    return key.seal(f"rounds\0{json.dumps(value, sort_keys=True)}")


def write_signed_json(path: Path, value: Mapping[str, Any], key: MarkKey) -> None:
    """Put a signed record in its place in one move, for its owner alone; on return it is on the disk."""
    text = json.dumps({"key": key.name, _SAID: value, _SEAL: seal_of(value, key)}, sort_keys=True)
    write_atomic(path, text + "\n", private=True)


def read_signed_json(path: Path, key: MarkKey) -> dict[str, Any]:
    """What ``write_signed_json`` wrote.

    Raises:
        ModelError: it is missing, damaged, was changed since, or has the seal of another key.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        said, seal = content[_SAID], content[_SEAL]
    except (OSError, ValueError, LookupError, TypeError):
        raise changed(path) from None
    if seal != seal_of(said, key):
        raise changed(path) if content.get("key") == key.name else _of_another_key(path)
    return dict(said)


def _of_another_key(path: Path) -> ModelError:
    return ModelError(
        f"{path} was recorded with another key (not {key_file()}), so that it cannot be checked; bring the key and set "
        f"{KEY_VARIABLE}"
    )


def write_signed_tensors(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, Any], key: MarkKey) -> str:
    """Put signed tensors in their place in one move, for their owner alone; on return they are on the disk.

    Args:
        path: of the file.
        tensors: on the CPU; their order is kept.
        said: JSON beside them.
        key: of the seal.

    Returns:
        The seal.
    """
    check_held_still(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    value = {**said, "names": list(kept)}
    seal = seal_of([value, _digests(kept)], key)
    temporary = path.with_suffix(".tmp")
    save_file(kept, temporary, metadata={_SAID: json.dumps(value), _SEAL: seal})
    put(temporary, path, private=True)
    return seal


def read_signed_tensors(path: Path, key: MarkKey, seal: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``write_signed_tensors`` wrote: the tensors in their order, and what is said of them.

    Args:
        path: of the file.
        key: of the seal.
        seal: that it must have, by another record; "" = any of this key.

    Raises:
        ModelError: it is missing, damaged, was changed since, or is another one of this key.
    """
    tensors, said, found = _opened(path, key)
    if seal not in ("", found):
        raise changed(path)
    return tensors, said


def seal_in_file(path: Path, key: MarkKey) -> str:
    """The seal of a file of tensors, which it has.

    Raises:
        ModelError: it is missing, damaged, or was changed since.
    """
    return _opened(path, key)[2]


def _opened(path: Path, key: MarkKey) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Tensors, what is said of them, and their seal."""
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            said = parse_json(metadata[_SAID])
            tensors = {name: opened.get_tensor(name) for name in said["names"]}
        found = seal_of([said, _digests(tensors)], key)
    except MemoryError:  # says nothing of the file
        raise
    except Exception:  # which ones a damaged file raises no list tells
        raise changed(path) from None
    if metadata.get(_SEAL) != found:
        raise changed(path)
    return tensors, {name: value for name, value in said.items() if name != "names"}, found


def _digests(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: [str(t.dtype), list(t.shape), tensor_digest(t)] for name, t in tensors.items()}


def changed(path: Path) -> ModelError:
    """The error of a record that is not as it was written."""
    what = "was changed after it was written, or is damaged" if path.exists() else "is missing"
    return ModelError(
        f"the round record {path} {what}; bring it back as it was, or learn again: palimpsest federated run"
    )
