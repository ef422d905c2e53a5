"""MOS: an adapter for every task, drawn to the earlier ones; Gaussians align the head; answers retrieve their adapter.

Source: Sun, Zhou, Zhao, Gan, Zhan & Ye 2024, "MOS: Model Surgery for Pre-Trained Model-Based Class-Incremental
Learning", arXiv:2412.09441; known from notes on the paper, not from its text.

    L = − mean log softmax( z )_y + contrast · mean log( 1 + Σ_c exp( (cos(f, mu_c) − 1) / tau ) )   c are earlier
    A_t ← A_t + pull · ( mean of A_1 … A_{t−1} − A_t )             after every step
    then   w ← argmin − mean log softmax( z(g) )_c                 g ~ N( mu_c, cov_c ) of all classes

z_c = scale · cos(f, w_c); mu and cov of a class are of its rows in the view of its own task. How an answer retrieves an
adapter is said in ``models/parts/retrieved_adapters.py``.

To unlearn, the rows to forget are given again and taken off the Gaussians, exactly, by example or with all rows by
class; the head then begins at the means that are left and is aligned anew, so that it is a function of what stays. What
remains: adapters were trained on the rows, and later ones were drawn to them. With the last class of a task its adapter
goes, too; from one that stays unlearn with another method (scrub, ug_clu).

Classes of ``--replay`` that the head does not know yet are taught with the first task; others are left alone.

Departs from the paper: AdamW in place of SGD; the contrast is with the means of earlier classes and not within a batch,
so that a step does not depend on how it is cut; the alignment begins at the means and takes a given number of steps;
features are rounded to multiples of 2⁻¹⁶.
Official code: github.com/sun-hailong/AAAI25-MOS; not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.class_counting import keep_record
from palimpsest.companions.class_statistics import ClassRecord, ClassStatistics
from palimpsest.companions.view_counting import ViewCounting, counted_in_views, without_empty_tasks
from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Stage, Step, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.activations import inputs_seen
from palimpsest.models.class_gaussians import ClassGaussian, GaussianDraws
from palimpsest.models.parts import bearer_of, named_buffers_of, parts_of_kind
from palimpsest.models.parts.block_adapter import BlockAdapter, drawn_to
from palimpsest.models.parts.class_head import fitted_head
from palimpsest.models.parts.retrieved_adapters import RetrievedAdapters
from palimpsest.models.parts.task_teaching import parts_of_task, rows_at, sets_of_task, start_rows

RIDGE = 1e-4
"""Added to the diagonal of a covariance."""


class MOSConfig(Config):
    """Options of MOS."""

    rank: int = Field(default=16, ge=1)
    """Width of an adapter; 16 in the paper."""
    adapter_scale: float = Field(default=0.1, gt=0)
    """Factor of what an adapter adds; 0.1 in the paper."""
    pull: float = Field(default=0.1, ge=0, lt=1)
    """Share of the way to the mean of earlier adapters after every step; 0.1 in the paper."""
    contrast: float = Field(default=0.1, ge=0)
    """Factor of the contrast with earlier classes; 0.1 in the paper."""
    tau: float = Field(default=0.8, gt=0)
    """Temperature of the contrast."""
    rounds: int = Field(default=4, ge=0)
    """How often an answer retrieves an adapter; 4 in the paper, 0 = the newest adapter answers."""
    align_steps: int = Field(default=200, ge=1)
    """Steps of the alignment; 30 passes in the paper."""
    align_rate: float = Field(default=0.005, gt=0)
    """Learning rate of the alignment; 0.005 in the paper."""
    align_rows: int = Field(default=16, ge=1)
    """Features that are drawn of every class for a step of it."""
    at: tuple[str, ...] = ()
    """Modules behind which adapters go; beside the feed-forward network of every block when empty."""
    scale: float = Field(default=16.0, gt=0)
    """Factor of the cosines; in training it decides how far apart classes are pushed."""
    rows_at_once: int = Field(default=1, ge=1)
    """Rows of a forward pass when they are counted. 1: what is counted has the same bits whoever is beside it."""


def contrast_sum(features_SD: Float[Tensor, "S D"], means_KD: Float[Tensor, "K D"], tau: float) -> Float[Tensor, ""]:
    """Σ_s log( 1 + Σ_c exp( (cos(f_s, mu_c) − 1) / tau ) ): each feature is to be more like itself than like a mean.

    >>> round(contrast_sum(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5).item(), 4)
    0.1269
    """
    cosine_SK = F.normalize(features_SD, dim=-1) @ F.normalize(means_KD, dim=-1).T
    return ((cosine_SK - 1) / tau).exp().sum(dim=-1).log1p().sum()


class MOS(Method):
    """Tune an adapter on the new classes, then the head on Gaussians of all."""

    Config = MOSConfig
    use_when = (
        "tasks come to a transformer and their classes are confused. "
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

    _new: Sequence[BlockAdapter] = ()  # none before a task is prepared
    _taught: tuple[str, ...] = ()

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """For new classes a head with one view more, and the adapter of that view; else the head that is there."""
        return parts_of_task(model, RetrievedAdapters, self.config, sets, has_rows=True)

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Is an adapter tuned? Then the head is the classifier of its task."""
        self._given: Mapping[str, ExampleSet] = sets
        self._record: ClassRecord | None = None
        self._drawing: GaussianDraws | None = None
        self._aligning = False
        adapters = parts_of_kind(model, BlockAdapter)
        self._new = [part for part in adapters if part.is_new]
        self._others = [part for part in adapters if not part.is_new]
        head = fitted_head(model, RetrievedAdapters)
        self._earlier_KD, self._taught = self._means_before().to(head.class_rows), sets_of_task(head, sets)
        return super().prepare(model, sets)

    def _means_before(self) -> Float[Tensor, "K D"]:
        """Of the classes that were counted before the run."""
        found = self.companions.get("class_statistics")
        record = found.record() if isinstance(found, ClassStatistics) else None
        return torch.zeros(0, 0) if record is None else record.mean_CD[record.present_C]

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Rows begin at the means of the plain features; where nothing is tuned, rows are counted or taken off."""
        head = fitted_head(model, RetrievedAdapters)
        if self._new:
            return (start_rows(model, head, [sets[name] for name in self._taught], 0),)
        return (self._begin(model, head), *named_buffers_of(model, head))

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """The adapter of new classes is tuned on them; then the rows are aligned, with nothing but draws."""
        anchor = "learn" if "learn" in sizes else "forget"
        tune = Stage("tune", anchor, phases=(Phase("tune", self._taught, moves_statistics=False),))
        training = {
            "max_steps": self.config.align_steps,
            "learning_rate": self.config.align_rate,
            "batch_size": 1,  # its row is not looked at
        }
        phases = (Phase("align", (anchor,)),)
        align = Stage("align", anchor, phases=phases, training=training, moves=(r"\.class_rows$",))
        return (tune, align) if self._new else (align,)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Of the rows of the task and the contrast; in the alignment of features that are drawn."""
        head = fitted_head(model, RetrievedAdapters)
        if phase.name == "align":
            return self._aligned(model, head, phase.sets[0])
        terms: dict[str, Term] = {}
        for name, batch in batches.items():
            with inputs_seen(bearer_of(model), (head.config.at,)) as seen:
                terms[name] = Term(-batch.predict(model).logp_S.sum(), of=name)
            if len(self._earlier_KD):
                total = contrast_sum(batch.gather(seen[head.config.at][-1]), self._earlier_KD, self.config.tau)
                terms[f"contrast {name}"] = Term(total, of=name, weight=self.config.contrast)
        return terms

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """A step, and a part of the way to the earlier adapters."""
        step()
        for adapter in self._new if phase.name == "tune" else ():
            drawn_to(adapter, self._others, self.config.pull)

    def _aligned(self, model: nn.Module, head: RetrievedAdapters, anchor: str) -> Terms:
        """The loss of as many draws of every class."""
        if not self._aligning:
            self._begin(model, head)
        draws = self._draws(model, head)
        which_K = torch.arange(len(draws.classes)).repeat_interleave(self.config.align_rows)
        features_KD = draws(which_K, torch.randn(len(which_K), draws.width))
        target_K = torch.tensor(draws.classes)[which_K].to(features_KD.device)
        said_KC = head.rows_said(features_KD).masked_fill(~head.present_C, -torch.inf)
        total = F.cross_entropy(said_KC, target_K, reduction="sum")
        return {"align": Term(total, of=anchor, count=torch.tensor(float(len(which_K)), device=total.device))}

    def _begin(self, model: nn.Module, head: RetrievedAdapters) -> str:
        """Rows at the means of all classes that are counted now; the alignment goes on from there."""
        record, self._aligning = self._counted(model, head), True
        return rows_at(model, head, record.mean_CD, record.present_C)

    def _draws(self, model: nn.Module, head: RetrievedAdapters) -> GaussianDraws:
        if self._drawing is None:
            record = self._counted(model, head)
            mean_CD, covariance_CDD, there = record.mean_CD, record.covariance_CDD, enumerate(record.present_C.tolist())
            found = {c: ClassGaussian(mean_CD[c], covariance_CDD[c], 0) for c, is_there in there if is_there}
            self._drawing = GaussianDraws(found, ridge=RIDGE, shrink=0.0, like=head.class_rows.detach())
        return self._drawing

    def finish(self, model: nn.Module) -> nn.Module:
        """The head answers, by the means where the run ended before the alignment; tasks without a class are gone."""
        head = fitted_head(model, RetrievedAdapters)
        head.teach(None)
        if not self._aligning:
            self._begin(model, head)
        _, record = without_empty_tasks(model, head, self._counted(model, head), self._how(head))
        keep_record(self.recording, record)
        return model

    def _counted(self, model: nn.Module, head: RetrievedAdapters) -> ClassRecord:
        if self._record is None:
            found = self.companions.get("class_statistics")
            self._record = counted_in_views(model, head, self._given, found, self._how(head))
        return self._record

    def _how(self, head: RetrievedAdapters) -> ViewCounting:
        tasks = head.config.tasks
        earlier = tasks[:-1] if self._new else tasks
        return ViewCounting("mos", max(tasks), earlier, "own", "class", self.config.rows_at_once)

    def state(self) -> Mapping[str, Tensor]:
        """Has the alignment begun?"""
        return {"aligning": torch.tensor(self._aligning)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._aligning = bool(state["aligning"])


METHOD = MOS
