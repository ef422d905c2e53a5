"""Folders whose weights are there in part, or in a form that nothing can be trained in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.errors import ModelError
from palimpsest.models.proportions import tensor_kinds
from palimpsest.models.whole import NEVER_READ

_INDEX = "model.safetensors.index.json"
_REAL = ("F", "BF")  # with which the names of kinds of real numbers begin
_TRAINED = ("weight", "bias")
_POINTER = b"version https://git-lfs"


def check_whole_files(folder: Path) -> None:
    """Every file that the index names is there, none is a pointer of Git LFS, and all weights are real numbers.

    Raises:
        ModelError: names the first.
    """
    shards = _shards(folder)
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"model {folder}: {len(missing)} of {len(shards)} files of weights are not there, e.g. {missing[0]}; "
            "download or copy it again"
        )
    for file in sorted(folder.glob("*.safetensors")):
        if file.is_file() and file.stat().st_size < 1000 and file.read_bytes().startswith(_POINTER):
            raise ModelError(f"model {folder}: {file.name} is a pointer of Git LFS, not the weights; run git lfs pull")
        check_real(file)


def check_real(file: Path) -> None:
    """Refuse weights that are whole or complex numbers: a run would cast them to others without a word.

    Raises:
        ModelError: names the first of the file.
    """
    kinds = {name: kind for name, kind in tensor_kinds(file).items() if not kind.startswith(_REAL)}
    found = [
        n for n, kind in kinds.items() if (n.endswith(_TRAINED) or kind.startswith("C")) and not NEVER_READ.search(n)
    ]
    if found:
        raise ModelError(
            f"model {file.parent}: {found[0]} is stored as {kinds[found[0]]} in {file.name}; accepted: weights of real "
            "numbers (fp32, fp16, bf16), so give the model that it was made from"
        )


def _shards(folder: Path) -> list[str]:
    file = folder / _INDEX
    if not file.is_file():
        return []
    try:
        files = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"model {folder}: {_INDEX} names no files of weights; copy it again") from None


def check_unquantised(config: Mapping[str, Any], source: object) -> None:
    """Refuse weights that a config calls quantised.

    Raises:
        ModelError: they are.
    """
    for part in (config, config.get("text_config")):
        found = part.get("quantization_config") if isinstance(part, Mapping) else None
        if isinstance(found, Mapping) and found:
            raise ModelError(
                f"model {source}: its weights are quantised ({_kind(found)}), and every run works on fp32 weights; "
                "give the model that it was made from"
            )


def _kind(quantisation: Mapping[str, Any]) -> str:
    bits = quantisation.get("bits") or next((n for n in (4, 8) if quantisation.get(f"load_in_{n}bit")), None)
    method = str(quantisation.get("quant_method", "method unknown"))[:40]
    return f"{method} {bits}-bit" if isinstance(bits, int) else method
