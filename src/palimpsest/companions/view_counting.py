"""Class statistics of a learner with several views: which features of a row are counted, and what is taken off.

A row is counted in the views up to its class's own task, the one that first taught it; later views had not been learned
then. So to delete a row one needs the row, its class's task and the model, and nothing that was kept of it.

Shape legend: N rows, V views, D width of what enters the head, C classes, M numbers that are counted of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from palimpsest.companions.class_counting import (
    COUNTED_SETS,
    Counting,
    not_counted,
    refuse_strangers,
    start_of_counting,
)
from palimpsest.companions.class_statistics import ClassRecord
from palimpsest.companions.companion import Companion
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.models.class_features import SeenRows, backbone_digest, seen_rows
from palimpsest.models.class_sums import KeptMoments
from palimpsest.models.parts import attach, detach, new_parts_of, off
from palimpsest.models.parts.task_teaching import rebuilt
from palimpsest.models.parts.task_views import TaskPart, acting_alone, task_parts
from palimpsest.models.parts.views_head import OfViews, ViewsHead


@dataclass(frozen=True)
class ViewCounting:
    """What a method counts.

    Attributes:
        method: its name.
        task: of the run; classes that are new are of it.
        earlier: views that the statistics beside the start were counted in.
        views: of a row: "all" up to its class's own, side by side, or its "own" one alone.
        moments: second ones, of each class or none.
        rows: of a forward pass.
    """

    method: str
    task: int
    earlier: tuple[int, ...]
    views: Literal["all", "own"] = "all"
    moments: KeptMoments = "none"
    rows: int = 1

    def counting(self, width: int, tasks: Sequence[int]) -> Counting:
        """The same in some views, for a head of a width."""
        times = len(tasks) if self.views == "all" else 1
        space = f"views {','.join(map(str, tasks))}" if self.views == "all" else "own view"
        return Counting(self.method, width=times * width, moments=self.moments, rows=self.rows, space=space)


def kept_features(
    features_NVD: Float[Tensor, "N V D"], own_N: Int[Tensor, "N"], tasks: Sequence[int], views: Literal["all", "own"]
) -> Float[Tensor, "N M"]:
    """What is counted of rows: the views up to their own side by side, zeros behind them; or their own one.

    >>> features = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    >>> kept_features(features, torch.tensor([1, 2]), (1, 2), "all").tolist()
    [[1.0, 0.0], [3.0, 4.0]]
    >>> kept_features(features, torch.tensor([1, 2]), (1, 2), "own").tolist()
    [[1.0], [4.0]]
    """
    task_V = torch.tensor(tasks)
    if views == "own":
        place_N = (own_N[:, None] == task_V).int().argmax(dim=-1)
        return features_NVD[torch.arange(len(own_N)), place_N]
    return (features_NVD * (task_V <= own_N[:, None])[:, :, None]).flatten(1)


def counted_in_views(
    model: nn.Module,
    head: ViewsHead,
    sets: Mapping[str, ExampleSet],
    companion: Companion | None,
    how: ViewCounting,
) -> ClassRecord:
    """The statistics after a run that learns some rows, forgets some, or both; new classes are the run's task's.

    Args:
        model: bears the parts of all tasks.
        head: on it; told the tasks of new classes.
        sets: of "learn" and "replay" the rows are counted that were not yet; those of "forget" are taken off.
        companion: beside the version that the run starts from, if any.
        how: what is counted.

    Raises:
        ModelError: the statistics are of another backbone, or of other features.
        DataError: a row to forget was never counted, or says something else; no class would be left.
        PlanError: there is nothing to take off from, or no key to mark rows with.
    """
    with _as_it_was(model):
        counting = how.counting(head.config.width, how.earlier)
        record = start_of_counting(model, companion, counting, forgets="forget" in sets)
    record = _brought_up(record, backbone_digest(model), how.counting(head.config.width, head.config.tasks))
    for name in COUNTED_SETS:
        rows = sets.get(name)
        new = [] if rows is None else not_counted(record, rows)
        if new:
            record = record.add(_seen(model, head, rows, new, how))
    if "forget" in sets:
        record = _without(record, model, head, sets["forget"], how)
    return record


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """The model without the parts of a task that the run made."""
    fresh = any(isinstance(part, TaskPart) and not part.continues for part in new_parts_of(model))
    gone = detach(model, new_parts_of(model)) if fresh else ()
    try:
        yield
    finally:
        attach(model, gone)


def _brought_up(record: ClassRecord, backbone: str, counting: Counting) -> ClassRecord:
    """With zeros in the views that there are now and were not."""
    more = counting.width - record.sums.width
    sums = replace(
        record.sums,
        sum_FCD=F.pad(record.sums.sum_FCD, (0, more)),
        square_FGDD=F.pad(record.sums.square_FGDD, (0, more, 0, more)),
    )
    return replace(record, sums=sums, backbone=backbone, space=counting.space)


def _without(
    record: ClassRecord, model: nn.Module, head: ViewsHead, rows: ExampleSet, how: ViewCounting
) -> ClassRecord:
    refuse_strangers(record, rows, how.method)
    return record.take_out(_seen(model, head, rows, rows.ids, how))


def _seen(model: nn.Module, head: ViewsHead, rows: Any, ids: Sequence[str], how: ViewCounting) -> SeenRows:
    """Rows as they are counted; classes without a task get that of the run."""
    found = []
    for task in head.config.tasks:
        with off(model, [head]), acting_alone(model, task):
            found.append(seen_rows(model, rows, ids, rows=how.rows))
    label_N, own_C = found[0].label_N, head.own_C
    new = torch.unique(label_N)
    own_C[new] = torch.where(own_C[new] == 0, how.task, own_C[new])
    features_NVD = torch.stack([one.features_NM for one in found], dim=1)
    kept_NM = kept_features(features_NVD, own_C.cpu()[label_N], head.config.tasks, how.views)
    return found[0]._replace(features_NM=kept_NM)


def without_empty_tasks(
    model: Any, head: OfViews, record: ClassRecord, how: ViewCounting
) -> tuple[OfViews, ClassRecord]:
    """Head and statistics without the views of tasks that no class is of any more, and the model without their parts.

    Args:
        model: bears the parts.
        head: on it; one with fewer views takes its place.
        record: of the run.
        how: it was counted.
    """
    there = set(head.own_C.cpu()[: record.sums.classes][record.present_C].tolist())
    tasks, width = head.config.tasks, head.config.width
    kept = tuple(task for task in tasks if task in {0, *there})
    if kept == tasks:
        return head, record
    detach(model, [part for part in task_parts(model) if part.task not in kept])
    made, counting = rebuilt(model, head, tasks=kept), how.counting(width, kept)
    sums = record.sums
    if how.views == "all":
        folds, classes, _ = sums.sum_FCD.shape
        by_view = sums.sum_FCD.reshape(folds, classes, len(tasks), width)
        sums = replace(sums, sum_FCD=by_view[:, :, [tasks.index(task) for task in kept]].flatten(2))
    return made, replace(record, sums=sums, backbone=backbone_digest(model), space=counting.space)
