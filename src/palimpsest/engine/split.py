"""Which rows of a pool were to go and which stay: the record beside a model of a request by subject, id or class."""

from __future__ import annotations

import json
from pathlib import Path

from palimpsest.engine.inputs import Read
from palimpsest.files import write_atomic

FILE = "split.json"


def write_split(folder: Path, read: Read) -> None:
    """Write the ids of both parts; nothing where the sets were given ready. Contents are in neither."""
    if read.request is None or not read.request.data:
        return
    parts = {role: [example.id for example in read.examples.get(role, [])] for role in ("forget", "retain")}
    write_atomic(folder / FILE, json.dumps({"data": read.request.data, **parts}, indent=1) + "\n")
