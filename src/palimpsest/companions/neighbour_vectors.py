"""Embeddings of what stays, kept to look for neighbours again: under the marks of their ids.

Shape legend: N vectors, D width.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from palimpsest.companions.companion import Companion, Forgotten, Held, bytes_in
from palimpsest.data.memory.neighbours import NeighbourIndex
from palimpsest.durable import check_held_still
from palimpsest.models.deciding import file_digest
from palimpsest.models.sealed import save_sealed
from palimpsest.untrusted import parse_json

_VECTORS = "vectors.safetensors"


class NeighbourVectors(Companion):
    """Vectors of ``data/memory/neighbours.py`` that outlive their run."""

    kind = "neighbours"

    def save(self, ids: Sequence[str], vectors_ND: Float[Tensor, "N D"]) -> None:
        """Write vectors of N ids; on return they are on the disk."""
        self._write([self.key.of_id(i) for i in ids], vectors_ND)

    def index(self) -> NeighbourIndex:
        """An index that finds marks."""
        return NeighbourIndex(*self._read(), backend="torch")

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those whose vectors are there."""
        there = frozenset(self._read()[0])
        return self.key.known(ids, there)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Write the others anew."""
        held = self.holds(ids)
        if held:
            (marks, vectors_ND), gone = self._read(), self.key.of_ids(held)
            kept = [row for row, mark in enumerate(marks) if mark not in gone]
            self._write([marks[row] for row in kept], vectors_ND[kept])
        return Forgotten(held, len(held))

    def digest(self) -> str:
        """Of the file."""
        return file_digest(self.folder / _VECTORS)

    def held(self) -> Held:
        """An example is a vector."""
        count = len(self._read()[0])
        return Held(count, count, bytes_in(self.folder))

    def _read(self) -> tuple[list[str], Tensor]:
        path = self.folder / _VECTORS
        if not path.is_file():
            return [], torch.zeros(0, 0)
        with safe_open(path, framework="pt") as file:
            return list(parse_json(file.metadata()["marks"])), file.get_tensor("vectors_ND")

    def _write(self, marks: Sequence[str], vectors_ND: Float[Tensor, "N D"]) -> None:
        check_held_still(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        said = {"marks": json.dumps(list(marks))}
        save_sealed({"vectors_ND": vectors_ND.float()}, self.folder / _VECTORS, said)


COMPANION = NeighbourVectors
