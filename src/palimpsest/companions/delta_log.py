"""The delta log: what each recorded step changed in the weights, and whose step it was.

Source: layer-wise partial machine unlearning, Alg. 1; amnesiac unlearning, Graves et al. 2021, arXiv:2010.10981.

A folder of records (``delta_record.py``) and ``index.json``: the records that count, each with its digest, the layouts
that they were packed by, the version whose weights the steps led to, and the marks of rows of which a step is missing.
A purge writes the index first and deletes then: whoever dies in between leaves files that no longer count, still hold
their rows, are reported by ``holds`` and go with the next purge.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from palimpsest.companions.companion import Change, Companion, Forgotten, Held, bytes_in
from palimpsest.companions.delta_format import KeptTensors, add_packed
from palimpsest.companions.delta_record import (
    Stamp,
    delta_stamp,
    layout_from,
    layout_to_json,
    record_name,
    records_in,
    tensors_of,
)
from palimpsest.companions.delta_recording import RECORDING, recorded_in
from palimpsest.companions.marks import MarkKey, check_key
from palimpsest.durable import check_held_still, flush, put_copy
from palimpsest.errors import DataError, ModelError
from palimpsest.in_words import so_many
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.records import digest

DELTA_INDEX = "index.json"
HOW_TO_RECORD = "learn with --record deltas"


class DeltaIndex(NamedTuple):
    """Which records of a folder count.

    Attributes:
        key: name of the key that the marks were made with.
        model: digest of the version that the steps led to.
        records: file name -> digest of its content, in the order of the steps.
        layouts: name -> tensors, in the order they were packed.
        lost: marks of rows of which a step was deleted with another row's and stays in the weights.
    """

    key: str
    model: str
    records: Mapping[str, str]
    layouts: Mapping[str, KeptTensors]
    lost: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        layouts = {name: layout_to_json(layout) for name, layout in self.layouts.items()}
        records = [list(item) for item in self.records.items()]
        return {**self._asdict(), "records": records, "layouts": layouts, "lost": sorted(self.lost)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of ``to_json``."""
        layouts = {str(name): layout_from(values) for name, values in value["layouts"].items()}
        return cls(str(value["key"]), str(value["model"]), dict(value["records"]), layouts, frozenset(value["lost"]))


class DeltaLog(Companion):
    """Changes of the weights that can be taken back, by whom they were made with."""

    kind = "deltas"

    @classmethod
    def open(cls, folder: Path, key: MarkKey) -> Self:
        """The log in a folder; an empty one where there is none.

        Raises:
            ModelError: its index is damaged, or was made with another key.
        """
        log = cls(folder, key)
        check_key(folder, log.index.key, key, whose="steps")
        return log

    @cached_property
    def index(self) -> DeltaIndex:
        """Which records count."""
        path = self.folder / DELTA_INDEX
        if not path.is_file():
            return DeltaIndex(self.key.name, "", {}, {})
        try:
            return DeltaIndex.from_json(read_sealed(path))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise ModelError(f"{path} is damaged; delete {self.folder} to go on without the log") from None

    @cached_property
    def stamps(self) -> dict[str, Stamp]:
        """File name -> what it says of itself, of every record that lies there and can be read."""
        found = {path.name: delta_stamp(path) for path in records_in(self.folder)}
        return {name: stamp for name, stamp in found.items() if stamp is not None}

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those that a record was made with, also one that no longer counts and was not deleted yet."""
        there = frozenset().union(*(stamp.who for stamp in self.stamps.values()))
        return self.key.known(ids, there)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Delete every record that one of these ids was in; the others of those steps lose a part of their history."""
        held, doomed = self.holds(ids), self._met(ids)
        marks = frozenset(map(self.key.of_id, ids))
        others = frozenset().union(*(self.stamps[name].who for name in doomed)) - marks
        self._delete(doomed, (self.index.lost | others) - marks)
        stale = f"{so_many(len(others), 'other row')} shared these steps, and can no longer be subtracted whole"
        return Forgotten(held, len(doomed), stale if others else "")

    def subtracted(self, ids: Collection[str]) -> Forgotten:
        """Delete every record that one of these ids was in, after it was taken back: no history is missing."""
        held, doomed = self.holds(ids), self._met(ids)
        self._delete(doomed, self.index.lost - frozenset(map(self.key.of_id, ids)))
        return Forgotten(held, len(doomed))

    def take_up(self, run: Path) -> None:
        """Append what the run recorded."""
        paths, layouts = recorded_in(run / RECORDING / self.kind)
        if paths:
            self.add(paths, layouts)

    def passed_on(self, change: Change) -> Forgotten:
        """Forget what the run forgot; what it subtracted leaves no gap."""
        forget = self.subtracted if self.kind in change.reads else self.forget
        found = forget(change.forgotten)
        self.write(self.index._replace(model=change.model))
        return found

    def stale_after(self, change: Change) -> str:
        """A history with steps missing would be subtracted as if it were whole."""
        if not change.steps or self.kind in change.recorded:
            return ""
        return f"{so_many(change.steps, 'step')} of {change.method} moved the weights, and no record was kept"

    def digest(self) -> str:
        """Of what counts: the records in their order, the layouts, and of whom a step is missing."""
        records = [self.stamps[name].sha256 for name in self.index.records if name in self.stamps]
        values = self.index.to_json()
        return digest([records, values["layouts"], values["lost"], values["key"]])

    def held(self) -> Held:
        """How many rows, steps and bytes."""
        who = frozenset().union(*(stamp.who for stamp in self.stamps.values()))
        return Held(len(who), len(self.stamps), bytes_in(self.folder))

    # -- what a method reads -----------------------------------------------------------------------------------------

    def check_whole(self, model: str, where: str) -> None:
        """Refuse a log that cannot be subtracted from a version.

        Args:
            model: digest of the version.
            where: the version, in words.

        Raises:
            ModelError: there is no record, one is missing or damaged, or other weights were the last.
        """
        if not self.index.records:
            raise ModelError(f"{where} has no delta log; {HOW_TO_RECORD}")
        if self.index.model != model:
            raise ModelError(
                f"the delta log of {where} is of other weights than those beside it; give the folder as its run left "
                f"it, or {HOW_TO_RECORD}"
            )
        if gap := self.damage():
            raise ModelError(f"the delta log of {where} has a gap: {gap}; bring it back, or {HOW_TO_RECORD}")

    def damage(self) -> str:
        """The first record that counts and is not there as it was written."""
        for name, sha256 in self.index.records.items():
            stamp = self.stamps.get(name)
            if stamp is None or stamp.sha256 != sha256 or tensors_of(self.folder / name) is None:
                return f"{name} is {'damaged' if (self.folder / name).exists() else 'missing'}"
        return ""

    def check_covers(self, ids: Collection[str], where: str) -> None:
        """Refuse rows whose steps are not all in the log.

        Raises:
            DataError: how many were in no recorded step, or have lost one; and the first.
        """
        torn = sorted(i for i in set(ids) if self.key.of_id(i) in self.index.lost)
        strangers = sorted(set(ids) - self.holds(ids) - set(torn))
        if strangers:
            raise DataError(
                f"{len(strangers)} of {so_many(len(set(ids)), 'row')} to forget are in no step of the delta log of "
                f"{where} (first: {strangers[0]!r}); {HOW_TO_RECORD}, or use another method"
            )
        if torn:
            raise DataError(
                f"the delta log of {where} has a gap: of {len(torn)} of {so_many(len(set(ids)), 'row')} to forget it "
                f"lost steps that they shared with rows that were purged (first: {torn[0]!r}); use another method"
            )

    def total_of(self, ids: Collection[str]) -> dict[str, Tensor]:
        """Sum of all changes that were made with any of these ids: name -> fp32 tensor on the CPU; all ids: of all."""
        totals, met = dict[str, Tensor](), self._met(ids)
        for name in (name for name in self.index.records if name in met):
            places, tensors = self.index.layouts[self.stamps[name].layout], tensors_of(self.folder / name)
            for place in places:
                totals.setdefault(place.name, torch.zeros(place.shape))
            add_packed(totals, tensors or {}, places)
        return totals

    # -- writing -----------------------------------------------------------------------------------------------------

    def add(self, records: Sequence[Path], layouts: Mapping[str, KeptTensors]) -> None:
        """Append records that lie elsewhere; the index is to be written by the caller's next ``passed_on``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((int(path.stem) for path in records_in(self.folder)), default=-1) + 1
        known = dict(self.index.records)
        for offset, path in enumerate(records):
            place = self.folder / record_name(number + offset)
            put_copy(path, place)
            stamp = delta_stamp(place)
            if stamp is None:
                raise ModelError(f"{path} is damaged; `palimpsest clean` the unfinished run, and start it again")
            known[place.name] = stamp.sha256
        self.write(self.index._replace(records=known, layouts={**self.index.layouts, **layouts}))

    def write(self, index: DeltaIndex) -> None:
        """Put a new index in place of the one that is there; on return it is on the disk."""
        write_sealed(self.folder / DELTA_INDEX, index.to_json())
        self.__dict__["index"] = index
        self.__dict__.pop("stamps", None)

    def _met(self, ids: Collection[str]) -> frozenset[str]:
        """Records, whether they count or not, that one of these ids was in."""
        marks = frozenset(map(self.key.of_id, ids))
        return frozenset(name for name, stamp in self.stamps.items() if stamp.who & marks)

    def _delete(self, doomed: Collection[str], lost: frozenset[str]) -> None:
        if not self.folder.is_dir():
            return
        check_held_still(self.folder)
        kept = {name: sha256 for name, sha256 in self.index.records.items() if name not in doomed}
        self.write(self.index._replace(records=kept, lost=lost))
        for name in doomed:
            (self.folder / name).unlink(missing_ok=True)
        flush(self.folder)
        self.__dict__.pop("stamps", None)


COMPANION = DeltaLog
