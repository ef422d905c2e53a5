"""EASE: an adapter for every task, frozen afterwards; prototypes in the views of all adapters, side by side.

Source: Zhou, Sun, Ye & Zhan 2024, "Expandable Subspace Ensemble for Pre-Trained Model-Based Class-Incremental
Learning", CVPR 2024, arXiv:2403.12030; known from notes on the paper, not from its text.

    L = − mean log softmax( scale · cos(f_t, w) )_y      over the classes of task t; adapter t and the rows w move
    y_c(x) = scale · ( cos(f_s, p_cs) + alpha / (V − 1) · Σ_{v ≠ s} cos(f_v, p_cv) )      s the task of class c

f_v is what enters the head with adapter v alone, p_cv its mean over the rows of class c. A class has no rows when later
adapters come; its means there are put together of the new classes by likeness (``models/parts/concatenated_means.py``).

To unlearn, the rows to forget are given again and taken off the sums that the means are made of, by example or with all
rows by class: means and synthesis have the bits of a head that never counted them. With the last class of a task its
adapter goes, too, and what comes out is the model that was never taught the task. Where some rows of a task stay, its
adapter stays as it is, and was trained on those that went: unlearn from it with another method (scrub, ug_clu).

Classes of ``--replay`` that the head does not know yet are taught with the first task; others are left alone.

Departs from the paper: AdamW in place of SGD; rows of the training head begin at the class means; features are rounded
to multiples of 2⁻¹⁶, so that sums are exact; classes of a later task that come again count in the views of their own.
Official code: github.com/sun-hailong/CVPR24-Ease; not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import Field
from torch import nn

from palimpsest.companions.class_counting import keep_record
from palimpsest.companions.class_statistics import ClassRecord
from palimpsest.companions.view_counting import ViewCounting, counted_in_views, without_empty_tasks
from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Stage, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.parts import named_buffers_of
from palimpsest.models.parts.class_head import fitted_head
from palimpsest.models.parts.concatenated_means import ConcatenatedMeans
from palimpsest.models.parts.task_teaching import parts_of_task, rebuilt, sets_of_task, start_rows
from palimpsest.terms import likelihood


class EASEConfig(Config):
    """Options of EASE."""

    rank: int = Field(default=64, ge=1)
    """Width of an adapter; 64 in the paper."""
    adapter_scale: float = Field(default=0.1, gt=0)
    """Factor of what an adapter adds; 0.1 in the paper."""
    other_weight: float = Field(default=0.1, ge=0)
    """alpha: what the views of other tasks count for beside a class's own; 0.1 in the paper."""
    at: tuple[str, ...] = ()
    """Modules behind which adapters go; beside the feed-forward network of every block when empty."""
    scale: float = Field(default=16.0, gt=0)
    """Factor of the cosines; in training it decides how far apart classes are pushed."""
    rows_at_once: int = Field(default=1, ge=1)
    """Rows of a forward pass when they are counted. 1: a deletion gives the bits of never counted; more is faster, and
    the same but for about 1e-6."""


class EASE(Method):
    """Tune an adapter on the new classes alone; count features in all views."""

    Config = EASEConfig
    use_when = (
        "tasks come one by one to a transformer, and one may go whole. "
        "Not with many tasks: each costs one more pass for every answer."
    )
    approach = "continual"
    kinds = ("learn", "unlearn", "update")
    needs = ()
    one_of = (("learn", "forget"),)
    uses = ("replay",)
    modalities = ("labels", "image")
    defaults = {"learning_rate": 1e-3, "batch_size": 32, "lr_scheduler_type": "cosine"}
    keeps = ("class_statistics",)
    edits = True
    adds_parts = True
    tunes_alone = True
    makes_head = True

    _tunes: tuple[str, ...] = ()  # none before a task is prepared

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """For new classes a head with one view more, and the adapter of that view; else the head that is there."""
        return parts_of_task(model, ConcatenatedMeans, self.config, sets, fixed={"join": "weighted"}, has_rows=False)

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Is an adapter tuned? Then the head is the classifier of its task."""
        self._given: Mapping[str, ExampleSet] = sets
        self._record: ClassRecord | None = None
        self._tunes = sets_of_task(fitted_head(model, ConcatenatedMeans), sets)
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Rows begin at the means of the plain features; where nothing is tuned, rows are counted or taken off."""
        head = fitted_head(model, ConcatenatedMeans)
        if self._tunes:
            return (start_rows(model, head, [sets[name] for name in self._tunes], 0),)
        self._record = self._counted(model, head)
        head.fit(self._record.mean_CD, self._record.present_C)
        return named_buffers_of(model, head)

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """The adapter of new classes is tuned on them."""
        phase = Phase("tune", self._tunes, moves_statistics=False)
        return (Stage("tune", self._tunes[0], phases=(phase,)),) if self._tunes else ()

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Mean negative log-likelihood among the classes of the task."""
        return likelihood(model, batches)

    def finish(self, model: nn.Module) -> nn.Module:
        """Count in all views; tasks without a class are gone, and so are the rows that were trained."""
        head = fitted_head(model, ConcatenatedMeans)
        head.teach(None)
        record = self._record or self._counted(model, head)
        head = rebuilt(model, head, has_rows=False) if self._tunes else head
        head, record = without_empty_tasks(model, head, record, self._how(head))
        head.fit(record.mean_CD, record.present_C)
        keep_record(self.recording, record)
        return model

    def _counted(self, model: nn.Module, head: ConcatenatedMeans) -> ClassRecord:
        found = self.companions.get("class_statistics")
        return counted_in_views(model, head, self._given, found, self._how(head))

    def _how(self, head: ConcatenatedMeans) -> ViewCounting:
        tasks = head.config.tasks
        return ViewCounting("ease", max(tasks), tasks[:-1] if self._tunes else tasks, rows=self.config.rows_at_once)


METHOD = EASE
