"""What a run makes of the class statistics that it found: counts what is learned, takes off what is to go.

Shape legend: N rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn

from palimpsest.companions.class_statistics import ClassRecord, ClassStatistics, write_class_record
from palimpsest.companions.companion import Companion
from palimpsest.companions.marks import own_key
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.models.class_features import Making, backbone_digest, content_digest_of, seen_rows
from palimpsest.models.class_sums import ClassSums, KeptMoments

COUNTED_SETS = ("learn", "replay")
"""Sets whose rows are counted, where they were not yet."""


@dataclass(frozen=True)
class Counting:
    """What a method counts.

    Attributes:
        method: its name.
        width: features of a row.
        moments: second ones, by class or of all rows.
        folds: parts that the rows are kept apart in, by a draw from their ids.
        rows: of a forward pass.
        space: what the features are; "" is what enters the head.
        making: the features, of what enters the head; None = these.
    """

    method: str
    width: int
    moments: KeptMoments = "none"
    folds: int = 1
    rows: int = 1
    space: str = ""
    making: Making | None = None


def fold_of(example_id: str, folds: int) -> int:
    """A row in five is of the last fold, of two; a function of its id alone, whoever else is there.

    >>> {fold_of(str(n), 2) for n in range(20)}, fold_of("a", 1)
    ({0, 1}, 0)
    """
    return folds - 1 if int(hashlib.sha256(example_id.encode("utf-8", "surrogatepass")).hexdigest(), 16) % 5 == 0 else 0


def record_after(
    model: nn.Module, sets: Mapping[str, ExampleSet], companion: Companion | None, how: Counting
) -> ClassRecord:
    """The statistics after a run that learns some rows, forgets some, or both.

    Args:
        model: its backbone is that of the run.
        sets: of "learn" and "replay" the rows are counted that were not yet; those of "forget" are taken off.
        companion: beside the version that the run starts from, if any.
        how: what is counted.

    Raises:
        ModelError: the statistics are of another backbone, or of other features.
        DataError: a row to forget was never counted, or says something else; no class would be left.
        PlanError: there is nothing to take off from, or no key to mark rows with.
    """
    record = start_of_counting(model, companion, how, forgets="forget" in sets)
    for name in COUNTED_SETS:
        if name in sets:
            record = _added(model, record, sets[name], how)
    if "forget" not in sets:
        return record
    rows = sets["forget"]
    refuse_strangers(record, rows, how.method)
    seen = seen_rows(model, rows, rows.ids, rows=how.rows, making=how.making)
    return record.take_out(seen, _folds(seen.ids, how.folds))


def start_of_counting(
    model: nn.Module, companion: Companion | None, how: Counting, *, forgets: bool = False
) -> ClassRecord:
    """The statistics beside the start, or those of no row."""
    key, backbone = own_key(), backbone_digest(model)
    if key is None:
        raise PlanError(
            f"{how.method} marks the rows that it counts, and there is no key to do it with; set PALIMPSEST_KEY_FILE"
        )
    there = companion.record() if isinstance(companion, ClassStatistics) else None
    if there is None and forgets:
        raise PlanError(
            f"{how.method} deletes from the class statistics that it kept when it learned, and there are none beside "
            f"the model; learn with --method {how.method}, or unlearn with another method"
        )
    if there is None:
        return ClassRecord(ClassSums.empty(how.width, 0, how.moments, how.folds), {}, backbone, how.space, key)
    if there.backbone != backbone:
        raise ModelError(
            "the class statistics beside the model are of another backbone (a weight below the head differs); "
            "accepted: the model that they were counted with, or a version learned anew"
        )
    _check_like(there, how)
    return there


def check_counting(model: nn.Module, companion: Companion | None, how: Counting) -> None:
    """Refuse statistics that a run could not go on with, before any row goes through the model.

    Raises:
        ModelError: they are of another backbone, or of other features.
    """
    if companion is not None:
        start_of_counting(model, companion, how)


def _check_like(there: ClassRecord, how: Counting) -> None:
    """Refuse statistics of other features, or with fewer moments than are needed."""
    wanted = (how.space, how.width, how.folds)
    found = (there.space, there.sums.width, len(there.sums.count_FC))
    if wanted != found or how.moments not in ("none", there.sums.moments):
        raise ModelError(
            f"the class statistics beside the model were counted by another method, or with other options, than this "
            f"run's ({how.method}): other features or moments; accepted: the same, or a version learned anew"
        )


def not_counted(record: ClassRecord, rows: ExampleSet) -> list[str]:
    """Those of some rows that the statistics have not counted, as they are now."""
    return [i for i in rows.ids if not record.knows(i, content_digest_of(rows, i))]


def refuse_strangers(record: ClassRecord, rows: ExampleSet, method: str) -> None:
    """Refuse to delete what was never counted, before any of it goes through the model.

    Raises:
        DataError: how many rows, and the first.
    """
    if strangers := not_counted(record, rows):
        raise DataError(
            f"{method}: {len(strangers)} of {len(rows)} rows to delete, first {strangers[0]!r}, were never counted "
            "by this head; accepted: rows that it learned, under the same ids"
        )


def _added(model: nn.Module, record: ClassRecord, rows: ExampleSet, how: Counting) -> ClassRecord:
    new = not_counted(record, rows)
    if not new:
        return record
    seen = seen_rows(model, rows, new, rows=how.rows, making=how.making)
    return record.add(seen, _folds(seen.ids, how.folds))


def _folds(ids: Sequence[str], folds: int) -> Int[Tensor, "N"]:
    return torch.tensor([fold_of(i, folds) for i in ids], dtype=torch.long)


def keep_record(folder: Path | None, record: ClassRecord) -> None:
    """Write statistics into the folder of a run, until the version is whole."""
    if folder is not None:
        write_class_record(folder / ClassStatistics.kind, record)
