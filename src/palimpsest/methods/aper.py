"""APER (called ADAM before): tune the model on the first task alone, then class means over both models side by side.

Source: Zhou, Cai, Ye, Zhan & Liu 2023, "Revisiting Class-Incremental Learning with Pre-Trained Models: Generalizability
and Adaptivity are All You Need", arXiv:2303.07338; known from notes on the paper, not from its text.

    L = − mean log softmax( scale · cos(f_1, w) )_y      on task 1; what ``tune`` names and the rows w move
    y_c(x) = scale · cos( [f_0, f_1], p_c ),   p_c = Σ_{i of class c} [f_0(x_i), f_1(x_i)] / n_c

f_0 is what enters the head of the model as it was, f_1 of the tuned one; both are frozen after task 1, and later tasks
are counted only, without a step. ``tune`` is one of the paper's: "adapter" (a narrow net beside every feed-forward
network), "ssf" (scale and shift), "vpt_shallow" and "vpt_deep" (prompts), "finetune" (all weights; the version keeps
both models).

To unlearn, the rows to forget are given again and taken off the sums, by example or with all rows by class: the means
have the bits of a head that never counted them. What remains: the tuned part itself saw all of task 1. Rows of later
tasks are in the means and nowhere else, so that their deletion is whole; where rows of task 1 are to go from the part,
too, unlearn it with another method (scrub, ug_clu), or learn task 1 anew without them.

Classes of ``--replay`` that the head does not know yet are taught with the first task; others are left alone.

Departs from the paper: AdamW in place of SGD; rows of the training head begin at the class means; features are rounded
to multiples of 2⁻¹⁶, so that sums are exact.
Official code: github.com/zhoudw-zdw/RevisitingCIL; not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import Field
from torch import nn

from palimpsest.companions.class_counting import keep_record
from palimpsest.companions.class_statistics import ClassRecord
from palimpsest.companions.view_counting import ViewCounting, counted_in_views
from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Stage, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.parts import named_buffers_of
from palimpsest.models.parts.class_head import fitted_head
from palimpsest.models.parts.concatenated_means import ConcatenatedMeans
from palimpsest.models.parts.first_task import Tune, first_part
from palimpsest.models.parts.task_teaching import rebuilt, sets_of_task, start_rows, taught_sets, teach_task
from palimpsest.models.parts.task_views import tasks_of
from palimpsest.models.parts.views_head import new_views_head
from palimpsest.terms import likelihood


class APERConfig(Config):
    """Options of APER."""

    tune: Tune = "adapter"
    """What moves on task 1: "adapter", "ssf", "vpt_shallow", "vpt_deep", or "finetune"."""
    rank: int = Field(default=64, ge=1)
    """Width of an adapter; 64 in the paper."""
    tokens: int = Field(default=5, ge=1)
    """Prompts of a block; 5 in the paper."""
    at: tuple[str, ...] = ()
    """Modules behind which adapters go; beside the feed-forward network of every block when empty."""
    scale: float = Field(default=16.0, gt=0)
    """Factor of the cosines; in training it decides how far apart classes are pushed."""
    rows_at_once: int = Field(default=1, ge=1)
    """Rows of a forward pass when they are counted. 1: a deletion gives the bits of never counted; more is faster, and
    the same but for about 1e-6."""


class APER(Method):
    """Tune once, then count features of the frozen and of the tuned model."""

    Config = APERConfig
    use_when = (
        "new classes come, and after the first task none may cost training. "
        "Not where later tasks are unlike the first, to which alone it adapts."
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
        """On the first task a head of two views and the part that is tuned; later the head that is there."""
        fixed = {"join": "joined", "has_rows": not tasks_of(model)}
        taught = taught_sets(model, sets)
        if tasks_of(model) or not taught:
            fitted_head(model, ConcatenatedMeans)
            return [new_views_head(model, ConcatenatedMeans, self.config, (0, 1), fixed)]
        options = self.config
        part = first_part(model, options.tune, options.at, options.rank, options.tokens)
        head = new_views_head(model, ConcatenatedMeans, options, (0, 1), fixed)
        teach_task(head, sets, taught, 1)
        return [head, part]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Is this the first task? Then the head is the classifier of it."""
        self._given: Mapping[str, ExampleSet] = sets
        self._tunes = sets_of_task(fitted_head(model, ConcatenatedMeans), sets)
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Rows begin at the means of the plain features; after the first task rows are counted or taken off."""
        head = fitted_head(model, ConcatenatedMeans)
        if self._tunes:
            return (start_rows(model, head, [sets[name] for name in self._tunes], 0),)
        self._fit(model, head)
        return named_buffers_of(model, head)

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """The first task is tuned on."""
        phase = Phase("tune", self._tunes, moves_statistics=False)
        return (Stage("tune", self._tunes[0], phases=(phase,)),) if self._tunes else ()

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Mean negative log-likelihood among the classes of the task."""
        return likelihood(model, batches)

    def finish(self, model: nn.Module) -> nn.Module:
        """After the first task count it, without the rows that were trained."""
        if self._tunes:
            head = fitted_head(model, ConcatenatedMeans)
            head.teach(None)
            self._fit(model, rebuilt(model, head, has_rows=False))
        return model

    def _fit(self, model: nn.Module, head: ConcatenatedMeans) -> None:
        how = ViewCounting("aper", 1, () if self._tunes else (0, 1), rows=self.config.rows_at_once)
        found = self.companions.get("class_statistics")
        record: ClassRecord = counted_in_views(model, head, self._given, found, how)
        head.fit(record.mean_CD, record.present_C)
        keep_record(self.recording, record)


METHOD = APER
