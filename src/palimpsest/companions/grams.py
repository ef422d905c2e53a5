"""Gram matrices of what unlearning layers were given to forget: XᵀX of each request, never the data.

Source: Chen & Yang 2023, "Unlearn What You Want to Forget", EMNLP: only XᵀX is kept to fuse the layers of requests.

A folder of one safetensors file for each request, "<place>/<map>" (I, I) in double precision, and ``index.json``: for
each file its digest, the marks of the rows, and at each place the digest of the layer that the request is in. After a
fusion that is the fused layer, whose second moments are the sums over its requests. They say no row, but they are of
persons: a purge deletes the file, the layer stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from safetensors.torch import load_file, save_file
from torch import Tensor

from palimpsest.companions.companion import Change, Companion, Forgotten, Held, damaged
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.marks import MarkKey, check_key, own_key
from palimpsest.companions.records_of_rows import first_damage, how_much, ids_in, records_with, wrong_with
from palimpsest.durable import check_held_still, flush, put
from palimpsest.errors import ModelError
from palimpsest.models.deciding import file_digest
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.records import digest

GRAM_INDEX = "index.json"
Layers = Mapping[str, str]
"""Place -> digest of the layer there."""


class GramRecord(NamedTuple):
    """One request.

    Attributes:
        file: its matrices.
        sha256: of the file.
        who: marks of its rows.
        layers: in which it is now.
    """

    file: str
    sha256: str
    who: tuple[str, ...]
    layers: Layers

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of ``_asdict``."""
        return cls(str(value["file"]), str(value["sha256"]), tuple(value["who"]), dict(value["layers"]))


class GramMatrices(Companion):
    """Second moments by request, and the layers that they belong to."""

    kind = "grams"
    brings_back = False

    @classmethod
    def open(cls, folder: Path, key: MarkKey) -> Self:
        """The matrices in a folder; none where it is not there.

        Raises:
            ModelError: its index is damaged, or was made with another key.
        """
        found = cls(folder, key)
        if found.records:
            check_key(folder, found._key_name, key)
        return found

    @cached_property
    def _index(self) -> dict[str, Any]:
        path = self.folder / GRAM_INDEX
        if not path.is_file():
            return {"key": self.key.name, "records": []}
        try:
            found = read_sealed(path)
            return {"key": str(found["key"]), "records": [GramRecord.from_json(one) for one in found["records"]]}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise damaged(path) from None

    @property
    def _key_name(self) -> str:
        return str(self._index["key"])

    @property
    def records(self) -> Sequence[GramRecord]:
        """One for each request, the oldest first."""
        found: Sequence[GramRecord] = self._index["records"]
        return found

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those that a request was of."""
        return ids_in(self.records, self.key, ids)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Delete the matrices of every request that one of these ids was in."""
        return self._forget(ids, self.records)

    def passed_on(self, change: Change) -> Forgotten:
        """Those of the request at hand are what was to be kept; of earlier ones that it was in nothing is."""
        return self._forget(change.forgotten, self.records[:-1])

    def _forget(self, ids: Collection[str], among: Sequence[GramRecord]) -> Forgotten:
        held, doomed = self.holds(ids), records_with(among, self.key, ids)
        if not doomed:
            return Forgotten()
        check_held_still(self.folder)
        self._write([record for record in self.records if record not in doomed])
        for record in doomed:
            (self.folder / record.file).unlink(missing_ok=True)
        flush(self.folder)
        stale = "the layers of these requests can no longer be fused with further ones"
        return Forgotten(held, len(doomed), stale)

    def stale_after(self, change: Change) -> str:
        """Inputs of layers in a model whose weights moved are others."""
        if not change.steps or self.kind in change.recorded:
            return ""
        return f"{change.method} moved the weights that the layers stand behind"

    def take_up(self, run: Path) -> None:
        """Add what the run recorded, and name the layers that earlier requests are in now."""
        place = run / RECORDING / self.kind
        if not (place / GRAM_INDEX).is_file():
            return
        found = read_sealed(place / GRAM_INDEX)
        number = max((int(Path(record.file).stem) for record in self.records), default=-1) + 1
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{number:04}.safetensors"
        _save(load_file(place / found["file"]), self.folder / name)
        layers = dict(found["layers"])
        new = GramRecord(name, file_digest(self.folder / name), tuple(found["who"]), layers)
        fused = [record._replace(layers=layers) for record in self.records] if found["fused"] else list(self.records)
        self._write([*fused, new])

    def moments_of(self, place: str, layer: str) -> dict[str, Tensor]:
        """Map -> XᵀX, the sum over all requests that a layer holds.

        Raises:
            ModelError: there is no request of it, or a file is missing or damaged.
        """
        total: dict[str, Tensor] = {}
        for record in self.records:
            if record.layers.get(place) == layer:
                for name, moments in self._matrices(record, place).items():
                    total[name] = total[name] + moments if name in total else moments
        if not total:
            raise ModelError(
                f"the unlearning layer at {place} has no Gram matrices beside the model, so that it cannot be fused; "
                "unlearn every request with eul.fuse=true, or stack (eul.fuse=false)"
            )
        return total

    def damage(self) -> str:
        """The first file that is not there as it was written."""
        return first_damage(self.records, self.folder)

    def _matrices(self, record: GramRecord, place: str) -> dict[str, Tensor]:
        path = self.folder / record.file
        if what := wrong_with(record, self.folder):
            raise ModelError(f"{path} is {what}; bring it back, or stack layers (eul.fuse=false)")
        return {name.rpartition("/")[2]: m for name, m in load_file(path).items() if name.rpartition("/")[0] == place}

    def digest(self) -> str:
        """Of the index and the files it names."""
        return digest([self._key_name, [list(map(str, record)) for record in self.records]])

    def held(self) -> Held:
        """Rows, requests and bytes."""
        return how_much(self.records, self.folder)

    def _write(self, records: Sequence[GramRecord]) -> None:
        values = [record._asdict() for record in records]
        write_sealed(self.folder / GRAM_INDEX, {"key": self.key.name, "records": values})
        self.__dict__.pop("_index", None)


def record_grams(
    folder: Path, grams: Mapping[str, Mapping[str, Tensor]], ids: Collection[str], layers: Layers, *, fused: bool
) -> None:
    """Keep the matrices of a request in the folder of its run, until the version is whole.

    Args:
        folder: of the run's recordings.
        grams: place -> map -> XᵀX.
        ids: of the request's rows.
        layers: digests of the layers that it is in.
        fused: earlier requests are in these layers, too.
    """
    key = own_key()
    if key is None:  # nobody could be told apart, so nothing is kept of anybody
        return
    place = folder / GramMatrices.kind
    place.mkdir(parents=True, exist_ok=True)
    tensors = {f"{at}/{name}": moments for at, found in grams.items() for name, moments in found.items()}
    _save(tensors, place / "new.safetensors")
    who = sorted(map(key.of_id, ids))
    write_sealed(place / GRAM_INDEX, {"file": "new.safetensors", "who": who, "layers": dict(layers), "fused": fused})


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    check_held_still(path)
    temporary = path.with_suffix(".tmp")
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    put(temporary, path, private=True)


COMPANION = GramMatrices
