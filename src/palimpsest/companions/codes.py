"""Which codes of a codebook fire in which rows, and for whom: the index from which topics are deleted.

A bit for each row and code, eight in a byte, under the marks of the rows' ids and of their subjects. Counts of a topic
are summed when they are asked for, so that a row that is purged is in none of them any more.

Shape legend: N rows, K codes, P bytes of a row.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from palimpsest.companions.companion import Change, Companion, Forgotten, Held, bytes_in, damaged
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.marks import MarkKey, check_key, own_key
from palimpsest.durable import check_held_still
from palimpsest.models.deciding import file_digest
from palimpsest.models.parts.code_tests import Firing
from palimpsest.models.sealed import is_sound, save_sealed
from palimpsest.untrusted import parse_json

_INDEX = "codes.safetensors"


class CodeIndex(NamedTuple):
    """What is written down.

    Attributes:
        rows: marks of N ids.
        topics: of each row the mark of its subject, or "".
        fired_NP: bits, eight in a byte.
        codes: K.
        nearest: S', codes of a token that count as firing.
        key: name of the key that made the marks.
    """

    rows: Sequence[str]
    topics: Sequence[str]
    fired_NP: UInt8[Tensor, "N P"]
    codes: int
    nearest: int
    key: str


def packed_bits(fired_NK: Bool[Tensor, "N K"]) -> UInt8[Tensor, "N P"]:
    """Eight codes in a byte, the first in its highest bit.

    >>> packed_bits(torch.tensor([[True, False, False, False, False, False, False, True, True]])).tolist()
    [[129, 128]]
    """
    return torch.from_numpy(np.packbits(fired_NK.numpy(), axis=1))


def unpacked_bits(fired_NP: UInt8[Tensor, "N P"], codes: int) -> Bool[Tensor, "N K"]:
    """Inverse of ``packed_bits``."""
    return torch.from_numpy(np.unpackbits(fired_NP.numpy(), axis=1, count=codes)).bool()


class Codes(Companion):
    """The index of a codebook that was learned."""

    kind = "codes"

    @classmethod
    def open(cls, folder: Path, key: MarkKey) -> Self:
        """The index in a folder; an empty one where there is none.

        Raises:
            ModelError: it is damaged, or was made with another key.
        """
        found = cls(folder, key)
        index = found.index()
        if index is not None:
            check_key(folder, index.key, key)
        return found

    def index(self) -> CodeIndex | None:
        """What is written down; None where nothing is.

        Raises:
            ModelError: it is damaged.
        """
        path = self.folder / _INDEX
        return _read(path) if path.is_file() else None

    def firing(self, topic: str) -> Firing | None:
        """Counts of the rows of a subject, and of all others; None where no row is of that subject, or all are."""
        index = self.index()
        mark = _topic_mark(self.key, topic)
        if index is None or len({one == mark for one in index.topics}) < 2:
            return None
        fired_NK = unpacked_bits(index.fired_NP, index.codes)
        is_of_it = torch.tensor([one == mark for one in index.topics])
        rows = int(is_of_it.sum())
        return Firing(fired_NK[is_of_it].sum(0), rows, fired_NK[~is_of_it].sum(0), len(is_of_it) - rows)

    def known_topics(self, among: Collection[str]) -> tuple[str, ...]:
        """Those of some subjects that rows are of, sorted."""
        index = self.index()
        there = frozenset(() if index is None else index.topics)
        return tuple(sorted(topic for topic in set(among) if _topic_mark(self.key, topic) in there))

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those whose codes are written down."""
        index = self.index()
        there = frozenset(() if index is None else index.rows)
        return self.key.known(ids, there)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Write the others anew."""
        index, held = self.index(), self.holds(ids)
        if index is not None and held:
            gone = self.key.of_ids(held)
            kept = [n for n, mark in enumerate(index.rows) if mark not in gone]
            rows, topics = ([of[n] for n in kept] for of in (index.rows, index.topics))
            _write(self.folder, index._replace(rows=rows, topics=topics, fired_NP=index.fired_NP[kept]))
        return Forgotten(held, len(held))

    def digest(self) -> str:
        """Of the file."""
        return file_digest(self.folder / _INDEX)

    def held(self) -> Held:
        """A row is a record."""
        index = self.index()
        count = 0 if index is None else len(index.rows)
        return Held(count, count, bytes_in(self.folder))

    def stale_after(self, change: Change) -> str:
        """Codes of a model whose weights moved fire elsewhere."""
        if not change.steps or self.kind in change.recorded:
            return ""
        return f"{change.method} moved the weights by which codes are chosen"

    def take_up(self, run: Path) -> None:
        """The index that the run wrote takes the place of an earlier one."""
        place = run / RECORDING / self.kind / _INDEX
        if place.is_file():
            _write(self.folder, _read(place))


def record_codes(
    folder: Path, ids: Sequence[str], subjects: Mapping[str, str], fired_NK: Bool[Tensor, "N K"], nearest: int
) -> None:
    """Write an index into the folder of a run, until the version is whole.

    Args:
        folder: of the run's recordings.
        ids: N of them.
        subjects: id -> subject, of rows that have one.
        fired_NK: which codes fire in which rows.
        nearest: codes of a token that count as firing.
    """
    key = own_key()
    if key is None:  # nobody could be told apart, so nothing is kept of anybody
        return
    topics = [_topic_mark(key, subjects[i]) if i in subjects else "" for i in ids]
    rows = [key.of_id(i) for i in ids]
    _write(folder / Codes.kind, CodeIndex(rows, topics, packed_bits(fired_NK), fired_NK.shape[1], nearest, key.name))


def _topic_mark(key: MarkKey, topic: str) -> str:
    return key.of_id(f"topic\0{topic}")


def _read(path: Path) -> CodeIndex:
    try:
        if not is_sound(path):
            raise ValueError
        with safe_open(path, framework="pt") as file:
            said, fired_NP = parse_json(file.metadata()["index"]), file.get_tensor("fired_NP")
        return CodeIndex(said["rows"], said["topics"], fired_NP, int(said["codes"]), int(said["nearest"]), said["key"])
    except (SafetensorError, OSError, ValueError, LookupError, TypeError):
        raise damaged(path) from None


def _write(folder: Path, index: CodeIndex) -> None:
    check_held_still(folder)
    folder.mkdir(parents=True, exist_ok=True)
    said = {**index._asdict(), "rows": list(index.rows), "topics": list(index.topics)}
    del said["fired_NP"]
    save_sealed({"fired_NP": index.fired_NP}, folder / _INDEX, {"index": json.dumps(said)})


COMPANION = Codes
