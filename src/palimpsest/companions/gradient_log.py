"""Past gradients: in which directions earlier requests to forget pushed the weights, for later ones to keep out of.

Source: ONPO, ICLR 2026 workshop (OpenReview lb6Ce20kl5), known to us from its abstract and our notes: gradients of
earlier requests are cached. They are derived from personal data, and a row can be guessed from its gradient: so they
are kept only when asked (``--record past_gradients``), for their owner alone, under the marks of their rows, and a
purge of one row deletes every gradient that it was in.

A folder of one safetensors file for each gradient (parameter name -> tensor) and ``index.json``: for each file its
digest, the request that it is of and the marks of its rows. A purge writes the index first and deletes then; whatever
the index does not name counts for nothing and goes with the next purge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from safetensors.torch import load_file
from torch import Tensor

from palimpsest.companions.companion import Change, Companion, Forgotten, Held, damaged
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.marks import MarkKey, check_key
from palimpsest.companions.records_of_rows import first_damage, how_much, ids_in, records_with
from palimpsest.durable import check_held_still, flush
from palimpsest.errors import ModelError
from palimpsest.models.deciding import file_digest
from palimpsest.models.sealed import save_sealed
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.records import digest

_INDEX, _SUFFIX = "index.json", ".safetensors"


class PastGradient(NamedTuple):
    """One gradient.

    Attributes:
        file: its name.
        sha256: of the file.
        request: number of the request that it is of.
        who: marks of the rows that it was taken over.
    """

    file: str
    sha256: str
    request: int
    who: tuple[str, ...]


class PastGradients(Companion):
    """Gradients by request."""

    kind = "past_gradients"

    @classmethod
    def open(cls, folder: Path, key: MarkKey) -> Self:
        """The gradients in a folder; none where it is not there.

        Raises:
            ModelError: its index is damaged, or was made with another key.
        """
        found = cls(folder, key)
        check_key(folder, found._index["key"], key)
        return found

    @cached_property
    def _index(self) -> dict[str, Any]:
        path = self.folder / _INDEX
        if not path.is_file():
            return {"key": self.key.name, "records": []}
        try:
            found = read_sealed(path)
            rows = [PastGradient(str(f), str(s), int(r), tuple(who)) for f, s, r, who in found["records"]]
            return {"key": str(found["key"]), "records": rows}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise damaged(path) from None

    @property
    def records(self) -> Sequence[PastGradient]:
        """The oldest first."""
        found: Sequence[PastGradient] = self._index["records"]
        return found

    def gradients(self) -> Iterator[dict[str, Tensor]]:
        """Parameter name -> gradient, one after the other, the oldest first.

        Raises:
            ModelError: a file is missing or damaged.
        """
        if what := self.damage():
            raise ModelError(f"{self.folder}: {what}; delete the folder to go on without it")
        for record in self.records:
            yield load_file(self.folder / record.file)

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those that a gradient was taken over."""
        return ids_in(self.records, self.key, ids)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Delete every gradient that one of these ids was in."""
        return self._forget(ids, self.records)

    def passed_on(self, change: Change) -> Forgotten:
        """Those of the request at hand are what was to be kept; of earlier ones that its rows were in nothing is."""
        newest = max((record.request for record in self.records), default=0) if self.kind in change.recorded else -1
        return self._forget(change.forgotten, [record for record in self.records if record.request != newest])

    def _forget(self, ids: Collection[str], among: Sequence[PastGradient]) -> Forgotten:
        held, doomed = self.holds(ids), records_with(among, self.key, ids)
        if doomed:
            check_held_still(self.folder)
            self._write([record for record in self.records if record not in doomed])
        self._sweep()
        stale = "later requests no longer keep out of their directions" if doomed else ""
        return Forgotten(held if doomed else frozenset(), len(doomed), stale)

    def _sweep(self) -> None:
        """Delete what the index does not name, also of a purge that died half way."""
        named = {record.file for record in self.records}
        loose = [path for path in self.folder.glob(f"*{_SUFFIX}") if path.name not in named]
        for path in loose:
            path.unlink(missing_ok=True)
        if loose:
            flush(self.folder)

    def take_up(self, run: Path) -> None:
        """Add what the run recorded, as one request more."""
        place = run / RECORDING / self.kind
        if not (place / _INDEX).is_file():
            return
        number = max((int(Path(record.file).stem) for record in self.records), default=-1) + 1
        request = max((record.request for record in self.records), default=-1) + 1
        self.folder.mkdir(parents=True, exist_ok=True)
        new = []
        for offset, who in enumerate(read_sealed(place / _INDEX)["who"]):
            name = f"{number + offset:04}{_SUFFIX}"
            save_sealed(load_file(place / f"{offset:04}{_SUFFIX}"), self.folder / name)
            new.append(PastGradient(name, file_digest(self.folder / name), request, tuple(who)))
        self._write([*self.records, *new])

    def damage(self) -> str:
        """The first file that is not there as it was written."""
        return first_damage(self.records, self.folder)

    def digest(self) -> str:
        """Of the index and the files it names."""
        return digest([self._index["key"], [list(map(str, record)) for record in self.records]])

    def held(self) -> Held:
        """Rows, gradients and bytes."""
        return how_much(self.records, self.folder)

    def _write(self, records: Sequence[PastGradient]) -> None:
        write_sealed(self.folder / _INDEX, {"key": self.key.name, "records": [list(record) for record in records]})
        self.__dict__.pop("_index", None)


def record_gradients(folder: Path, gradients: Sequence[tuple[Mapping[str, Tensor], Collection[str]]]) -> None:
    """Keep the gradients of a request in the folder of its run, until the version is whole.

    Args:
        folder: of this kind among the run's recordings.
        gradients: each with the marks of its rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, (tensors, _) in enumerate(gradients):
        save_sealed(tensors, folder / f"{number:04}{_SUFFIX}")
    write_sealed(folder / _INDEX, {"who": [sorted(who) for _, who in gradients]})


COMPANION = PastGradients
