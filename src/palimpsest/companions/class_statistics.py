"""Statistics of what enters a classifier's head, by class: additive, so that rows can be taken off them exactly.

Counts, sums and, where a method wants them, second moments of every class (``models/class_sums.py``: whole numbers, so
that "deleted" and "never counted" are the same bits), and of each row that was counted the marks of its id and of what
it said, and its class. What a row said is not kept: who deletes a row gives it again, its features are computed anew,
and a row that was never counted, or that says something else by now, is refused. The statistics belong to one
backbone, told by the digest of all its weights but the head.

A purge by ids alone cannot take a row off a sum. It drops the sums of its whole class, with the marks of all rows that
are in them; where second moments are of all classes together, everything. The head that was fitted stays.

Shape legend: C classes, D features.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from palimpsest.companions.companion import Change, Companion, Forgotten, Held, bytes_in, damaged
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.marks import MarkKey, check_key
from palimpsest.durable import check_held_still
from palimpsest.errors import DataError
from palimpsest.in_words import so_many
from palimpsest.models.class_features import SeenRows
from palimpsest.models.class_sums import ClassSums
from palimpsest.models.scope import tensor_digest
from palimpsest.models.sealed import damage_of, is_sound, save_sealed
from palimpsest.records import digest
from palimpsest.untrusted import parse_json

_FILE = "statistics.safetensors"
_SUMS = ("count_FC", "sum_FCD", "square_FGDD")


class CountedRow(NamedTuple):
    """What is kept of a row by itself.

    Attributes:
        content: mark of what it said.
        label: its class.
    """

    content: str
    label: int


@dataclass(frozen=True)
class ClassRecord:
    """Statistics, whose they are, and of which backbone.

    Attributes:
        sums: of all rows.
        rows: mark of an id -> what is kept of it.
        backbone: digest of the weights that the features come from.
        space: what the features are, in a word: "" is what enters the head.
        key: that made the marks.
    """

    sums: ClassSums
    rows: Mapping[str, CountedRow]
    backbone: str
    space: str
    key: MarkKey

    @property
    def present_C(self) -> Bool[Tensor, "C"]:
        """Classes that a row is of."""
        return self.sums.present_C

    @property
    def mean_CD(self) -> Float[Tensor, "C D"]:
        """Of every class, in double precision."""
        return self.sums.mean_CD

    @property
    def covariance_CDD(self) -> Float[Tensor, "C D D"]:
        """Of every class, in double precision; for second moments by class."""
        return self.sums.covariance_CDD

    def knows(self, example_id: str, content: str) -> bool:
        """Was this row counted, as it is?

        Raises:
            DataError: another row was, under its id.
        """
        there = self.rows.get(self.key.of_id(example_id))
        if there is not None and there.content != self._mark(content):
            raise DataError(
                f"row {example_id!r} was learned with another content or label under this id; accepted: the row as it "
                "was learned, or an id that is free"
            )
        return there is not None

    def has_content(self, content: str) -> bool:
        """Was a row counted that said this, under whatever id?"""
        return self._mark(content) in self._contents

    @cached_property
    def _contents(self) -> frozenset[str]:
        return frozenset(row.content for row in self.rows.values())

    def add(self, seen: SeenRows, fold_N: Tensor | None = None) -> Self:
        """With rows that were not counted yet."""
        new = {
            self.key.of_id(i): CountedRow(self._mark(content), label)
            for i, content, label in zip(seen.ids, seen.contents, seen.label_N.tolist(), strict=True)
        }
        sums = self.sums.plus(seen.features_NM, seen.label_N, fold_N)
        return replace(self, sums=sums, rows={**self.rows, **new})

    def take_out(self, seen: SeenRows, fold_N: Tensor | None = None) -> Self:
        """Without rows that were counted, as if they never had been.

        Raises:
            DataError: one was not, or said something else; or no class would be left.
        """
        strangers = [i for i, content in zip(seen.ids, seen.contents, strict=True) if not self.knows(i, content)]
        _refuse_strangers(strangers, "this head")
        gone = self.key.of_ids(seen.ids)
        kept = {mark: row for mark, row in self.rows.items() if mark not in gone}
        if not kept:
            raise DataError(
                "no row of any class would be left in the head; accepted: a request that leaves one class, or a new "
                "model without the head"
            )
        return replace(self, sums=self.sums.plus(seen.features_NM, seen.label_N, fold_N, sign=-1), rows=kept)

    def _mark(self, content: str) -> str:
        return self.key.seal(f"shown\0{content}")


def _refuse_strangers(strangers: Collection[str], where: str) -> None:
    if strangers:
        first = next(iter(strangers))
        raise DataError(
            f"{so_many(len(strangers), 'row')} to delete, first {first!r}, {'was' if len(strangers) == 1 else 'were'} "
            f"never counted in the class statistics of {where}; accepted: rows that it learned, under the same ids"
        )


class ClassStatistics(Companion):
    """The statistics of a class head."""

    kind = "class_statistics"

    @classmethod
    def open(cls, folder: Path, key: MarkKey) -> Self:
        """Those in a folder; of no row where there are none.

        Raises:
            ModelError: they are damaged, or were made with another key.
        """
        found = cls(folder, key)
        found.record()
        return found

    def record(self) -> ClassRecord | None:
        """What is kept; None where nothing is.

        Raises:
            ModelError: it is damaged, or was made with another key.
        """
        path = self.folder / _FILE
        return _read(path, self.key) if path.is_file() else None

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those whose features are in a sum."""
        record = self.record()
        rows = {} if record is None else record.rows
        return self.key.known(ids, rows)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Drop every sum that one of these rows is in, and the marks of all rows of those sums."""
        record, held = self.record(), self.holds(ids)
        if record is None or not held:
            return Forgotten()
        labels = {record.rows[self.key.of_id(i)].label for i in held}
        left = _without_sums_of(labels, record)
        write_class_record(self.folder, left)
        gone = len(record.rows) - len(left.rows)
        if gone == len(held):
            return Forgotten(held, gone)
        others = so_many(gone - len(held), "other row")
        return Forgotten(held, gone, f"their sums went too, so that {others} can no longer be deleted exactly")

    def digest(self) -> str:
        """Of all that is in it; in the file the order of what is said of it is left to chance."""
        record = self.record()
        if record is None:
            return digest(None)
        sums = [tensor_digest(getattr(record.sums, name)) for name in _SUMS]
        return digest([sums, *_said(record).values()])

    def held(self) -> Held:
        """A row is an example, and a record."""
        record = self.record()
        count = 0 if record is None else len(record.rows)
        return Held(count, count, bytes_in(self.folder))

    def damage(self) -> str:
        """The file, where it is not as it was written."""
        return damage_of(self.folder / _FILE)

    def check_covers(self, ids: Collection[str], where: str) -> None:
        """Refuse rows that were never counted.

        Raises:
            DataError: how many, and the first.
        """
        _refuse_strangers([i for i in ids if i not in self.holds(ids)], where)

    def stale_after(self, change: Change) -> str:
        """Features of another model are others, and a head that another method made is not of these sums."""
        return "" if self.kind in change.recorded else f"{change.method} did not go on counting"

    def take_up(self, run: Path) -> None:
        """What the run counted takes the place of what was there."""
        path = run / RECORDING / self.kind / _FILE
        if path.is_file():
            write_class_record(self.folder, _read(path, self.key))


def _without_sums_of(labels: Collection[int], record: ClassRecord) -> ClassRecord:
    """The statistics without the sums of some classes, and the marks of all rows in them; pooled ones go whole."""
    sums = record.sums
    if sums.moments == "pooled":
        return replace(record, sums=ClassSums.empty(sums.width, sums.classes, "pooled", len(sums.count_FC)), rows={})
    gone_C = torch.tensor([label in labels for label in range(sums.classes)])
    kept = {mark: row for mark, row in record.rows.items() if row.label not in labels}
    return replace(record, sums=sums.without_classes(gone_C), rows=kept)


def write_class_record(folder: Path, record: ClassRecord) -> None:
    """Write statistics to a folder; on return they are on the disk, the old ones or the new ones.

    A symmetric matrix is written as its upper half.
    """
    check_held_still(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sums = record.sums
    rows, columns = torch.triu_indices(sums.width, sums.width)
    tensors = {name: getattr(sums, name) for name in _SUMS[:2]} | {"square_upper": sums.square_FGDD[..., rows, columns]}
    save_sealed(tensors, folder / _FILE, {"record": json.dumps(_said(record))})


def _said(record: ClassRecord) -> dict[str, Any]:
    """What stands beside the sums."""
    return {
        "rows": {mark: list(row) for mark, row in sorted(record.rows.items())},
        "moments": record.sums.moments,
        "backbone": record.backbone,
        "space": record.space,
        "key": record.key.name,
    }


def _read(path: Path, key: MarkKey) -> ClassRecord:
    try:
        if not is_sound(path):
            raise ValueError
        with safe_open(path, framework="pt") as file:
            said = parse_json(file.metadata()["record"])
            count, total, upper = (file.get_tensor(name) for name in (*_SUMS[:2], "square_upper"))
        moments: Literal["none", "class", "pooled"] = said["moments"]
        sums = ClassSums(count, total, _whole(upper, total.shape[2]), moments)
        rows = {str(mark): CountedRow(str(row[0]), int(row[1])) for mark, row in said["rows"].items()}
        record = ClassRecord(sums, rows, str(said["backbone"]), str(said["space"]), key)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError):
        raise damaged(path) from None
    check_key(path.parent, said["key"], key)
    return record


def _whole(upper: Tensor, width: int) -> Tensor:
    """Symmetric matrices of their upper halves."""
    rows, columns = torch.triu_indices(width, width)
    whole = upper.new_zeros(*upper.shape[:2], width, width)
    whole[..., rows, columns] = upper
    whole[..., columns, rows] = upper
    return whole


COMPANION = ClassStatistics
