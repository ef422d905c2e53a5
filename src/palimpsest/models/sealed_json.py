"""JSON of an unfinished run with its digest beside the value: what was damaged since is not gone on from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from palimpsest.files import write_atomic
from palimpsest.untrusted import parse_json


def write_sealed(path: Path, value: Any) -> None:
    """Replace a JSON file of ours in one move; on return it is on the disk, and nobody but its owner may read it."""
    write_atomic(path, sealed_text(value), private=True)


def sealed_text(value: Any) -> str:
    """A value with its digest, as ``read_sealed`` takes it."""
    text = json.dumps(value, sort_keys=True)
    return f'{{"sha256": "{_sha256(text)}", "value": {text}}}\n'


def read_sealed(path: Path) -> Any:
    """What ``write_sealed`` wrote.

    Raises:
        ValueError: it is damaged, or was written by something else.
        OSError: it cannot be read.
    """
    content = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("sha256") != _sha256(
        json.dumps(content.get("value"), sort_keys=True)
    ):
        raise ValueError(f"{path} does not have the digest that was written into it")
    return content["value"]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
