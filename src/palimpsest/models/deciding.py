"""Which files of a model folder decide what it answers, and what is in them.

A folder of weights may hold anything besides; what transformers and PEFT read is known by its name. Shards are read
wherever the index puts them, also outside the folder.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from palimpsest.models.parts.parts_folder import BASE, bears_parts, files_in
from palimpsest.models.plain import read_json_object
from palimpsest.records import digest

INDEX = "model.safetensors.index.json"
TEMPLATES = "additional_chat_templates"
_NAMES = (
    "model.safetensors",
    "adapter_model.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "*processor_config.json",
    "*tokenizer*",
    "*vocab*",
    "merges.txt",
    "bpe.codes",
    "dict.txt",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "tekken.json",
    "normalizer.json",
    "emoji.json",
    "byte_maps.json",
    "word_shape.json",
    "word_pronunciation.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.jinja",
    "chat_template*.json",
)
"""Weights, but for shards, which the index names; configurations; tokenizers in the layouts that transformers knows;
chat templates."""
_BY_MEANING = frozenset({"config.json", "generation_config.json", "adapter_config.json", "part.json"})
SAID_IN_PASSING = frozenset(
    {
        "_from_model_config",
        "_name_or_path",
        "base_model_name_or_path",  # the base counts by its content, wherever it lies
        "held_as",
        "made_by",  # of a part: which run it came from
        "transformers_version",
    }
)
"""Keys of a configuration that saving or moving alone changes."""
_SETTLED = 2_000_000_000  # ns; what was written this long ago cannot change again within one tick of a file's clock


def decides(name: str) -> bool:
    """Is a file of this name, in a model folder, one that decides what the model answers?

    >>> decides("spiece.model"), decides("report.html")
    (True, False)
    """
    return any(fnmatchcase(name, pattern) for pattern in _NAMES) and not name.startswith(".")


def deciding_files(folder: Path) -> dict[str, Path]:
    """Every such file, by its name in the folder, in the order of the names.

    Args:
        folder: of a model.
    """
    found = {path.name: path for path in folder.iterdir() if decides(path.name)}
    found |= {f"{TEMPLATES}/{path.name}": path for path in (folder / TEMPLATES).glob("*.jinja")}
    found |= {name: folder / name for name in shards_of(folder)}
    found |= _beside_parts(folder) if bears_parts(folder) else {}
    return {name: found[name] for name in sorted(found) if found[name].is_file()}


def _beside_parts(folder: Path) -> dict[str, Path]:
    """Of a version with parts: the files of its base, and of each part."""
    base = folder / BASE
    inner = deciding_files(base) if base.is_dir() and not bears_parts(base) else {}
    return {f"{BASE}/{name}": path for name, path in inner.items()} | files_in(folder)


def shards_of(folder: Path) -> Iterator[str]:
    """Files of weights as the index names them; none where there is no index that could be read."""
    weights = read_json_object(folder / INDEX).get("weight_map")
    if isinstance(weights, dict):
        yield from sorted({name for name in weights.values() if isinstance(name, str)})


def content_digest(file: Path) -> str:
    """SHA-256 over what a file says: of a configuration without what saving alone changes, else over its bytes."""
    values = read_json_object(file) if file.name in _BY_MEANING else {}
    try:
        return digest({k: v for k, v in values.items() if k not in SAID_IN_PASSING}) if values else file_digest(file)
    except ValueError:  # an infinite number, which has no canonical form
        return file_digest(file)


def file_digest(file: Path) -> str:
    """SHA-256 over a file's bytes, read in pieces.

    In one process a file is read once as long as it is the same one of the same size and times; not so a file that was
    written a moment ago: it could be written again without a change of its times.
    """
    seen = file.stat()
    settled = time.time_ns() - max(seen.st_mtime_ns, seen.st_ctime_ns) > _SETTLED
    hashed = _hashed if settled else _hashed.__wrapped__
    return hashed(file, (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))


@lru_cache(maxsize=4096)
def _hashed(file: Path, _identity: tuple[int, ...]) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
