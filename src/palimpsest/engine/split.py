"""Which rows of a pool were to go and which stay: the record beside a model of a request by subject, id or class."""

from __future__ import annotations

import json
from pathlib import Path

from palimpsest.companions.marks import own_key
from palimpsest.engine.inputs import Read
from palimpsest.files import write_atomic

FILE = "split.json"


def write_split(folder: Path, read: Read) -> None:
    """Write which rows were in both parts; nothing where the sets were given ready. Contents are in neither.

    Of rows that stay the ids, of rows that go the keyed digests: who has the key can look an id up, nobody else.
    """
    if read.request is None or not read.request.data:
        return
    key = own_key()
    forget = [] if key is None else [key.of(example)[0] for example in read.examples.get("forget", [])]
    retain = [example.id for example in read.examples.get("retain", [])]
    values = {"data": read.request.data, "forget_digests": forget, "retain": retain}
    write_atomic(folder / FILE, json.dumps(values, indent=1) + "\n")
