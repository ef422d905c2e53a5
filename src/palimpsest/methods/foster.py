"""FOSTER: a new backbone learns what the old one is missing, and then both are compressed into one plain model.

Source: Wang et al. 2022, "FOSTER: Feature Boosting and Compression for Class-Incremental Learning", arXiv:2204.04662;
known from notes, not read for this.

    boost:     L = Σ_set w_set · ( − mean log softmax(z / b)[class] − mean log p_new[class]
                                   + lambda_okd · mean KL( p_old^(1/T) ‖ p^(1/T) ) over the memory's classes )
    compress:  L = Σ_set w_set · mean − Σ_c q_c log softmax(s / T)_c,   q_c ~ b_c · softmax(z / T)_c
    b_c = (1 − beta) / (1 − beta^n_c), times a factor that makes their mean 1
    n_c = rows of class c in learn + Σ_memory w · rows of class c in it · rows of learn / rows of the memory

z are the logits of the old and the new backbone under one head, p_new those of a classifier on the new one's features
alone, p_old the model before, s the student. Sets: learn (w = 1), retain and replay (memory_weight). The old backbone
stands still while the new one learns; the student begins as the model before and takes its place, so that the result
has the size and the layers of what came in. The first task has nothing to hold and is fine-tuning: a run without a
memory.

Deletion: nothing of a task stands apart in one plain model, so by class or example it is ug_clu, scrub or salun.

Departs from the paper: every set has its own mean, where there is one over a mixed batch, and n_c counts rows as they
weigh then, where it counts them as they are; the new columns of old classes begin at zero.
Official code: github.com/G-U-N/ECCV22-FOSTER; not read for this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Stage, Term, Terms
from palimpsest.data.encode.batch import Batch, Predictions, predict_together
from palimpsest.errors import ModelError
from palimpsest.models.divergence import kl_divergence
from palimpsest.models.modes import asked
from palimpsest.models.parts import detach, off, parts_of
from palimpsest.models.parts.backbone_growth import (
    EARLIER_ROWS,
    classes_of_sets,
    freeze_all_but_new,
    linear_head_of,
    names_before_head,
    new_backbone,
    new_grown_of,
    rows_of_classes,
    take_its_place,
)
from palimpsest.models.parts.grown_backbones import GrownBackbone, grown_backbones_of
from palimpsest.models.wide_predictions import predict_beside
from palimpsest.terms import likelihood_together


class FOSTERConfig(Config):
    """Options of boosting and compressing."""

    beta_boost: float = Field(default=0.96, ge=0, lt=1)
    """beta of the boosting; 0 treats all classes alike, near 1 by their number of rows; 0.96 in the paper."""
    beta_compress: float = Field(default=0.97, ge=0, lt=1)
    """beta of the compression; 0.97 in the paper."""
    lambda_okd: float = Field(default=1.0, ge=0)
    """Factor of the distillation of the model before; 1 in the paper."""
    temperature: float = Field(default=2.0, gt=0)
    """T of both distillations; 2 in the paper."""
    boost_share: float = Field(default=0.55, gt=0, lt=1)
    """Of the epochs of the run, for boosting; the rest is for compressing."""
    memory_weight: float = Field(default=1.0, ge=0)
    """Factor of the losses on the memory."""


def balance(rows_C: Float[Tensor, "C"], beta: float) -> Float[Tensor, "C"]:
    """b_c, larger for classes of fewer rows, with a mean of 1; less than one row counts as one.

    >>> balance(torch.tensor([1.0, 2.0]), 0.5).tolist()
    [1.2000000476837158, 0.800000011920929]
    """
    effective_C = (1 - beta ** rows_C.clamp(min=1).double()) / (1 - beta)
    return ((1 / effective_C) * len(rows_C) / (1 / effective_C).sum()).float()


def aligned_loss(
    logits_SC: Float[Tensor, "S C"], target_S: Int[Tensor, "S"], balance_C: Float[Tensor, "C"]
) -> Float[Tensor, ""]:
    """Cross-entropy of logits divided by b_c, summed, nats: a rare class must be the surer for the same probability.

    >>> round(aligned_loss(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), torch.tensor([2.0, 0.5])).item(), 4)
    0.6931
    """
    return F.cross_entropy(logits_SC.float() / balance_C, target_S, reduction="sum")


def balanced_distillation(
    teacher_SC: Float[Tensor, "S C"], student_SC: Float[Tensor, "S C"], balance_C: Float[Tensor, "C"], T: float
) -> Float[Tensor, ""]:
    """Cross-entropy of the student to what the teacher says, class by class times b_c and normalised again; summed.

    >>> teacher, student = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    >>> round(balanced_distillation(teacher, student, torch.tensor([1.5, 0.5]), 2.0).item(), 4)
    0.6931
    """
    soft_SC = (teacher_SC.float() / T).softmax(dim=-1) * balance_C
    soft_SC = soft_SC / soft_SC.sum(dim=-1, keepdim=True)
    return -(soft_SC * (student_SC.float() / T).log_softmax(dim=-1)).sum()


class FOSTER(Method):
    """A second backbone for a while, and one model in the end."""

    Config = FOSTERConfig
    use_when = (
        "new classes need features of their own and the model may not grow. "
        "Not without a memory (--replay): then it is plain fine-tuning. A transformer wants less than 1e-3 (--lr 1e-4)."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain", "replay")
    modalities = ("labels", "image")
    defaults = {"learning_rate": 1e-3, "num_train_epochs": 40.0, "lr_scheduler_type": "linear"}
    adds_parts = True
    tunes_alone = True
    moves_all = True
    own_schedule = True

    @classmethod
    def leaves_parts(cls, config: FOSTERConfig) -> bool:
        """The student takes the model's place."""
        return False

    def check(self, model: nn.Module) -> None:
        """It is one plain model that is boosted."""
        if grown_backbones_of(model):
            raise ModelError(
                "foster begins with one backbone, and the model has grown others; accepted: a model without them, or "
                "go on with the method that grew it (der, memo)"
            )

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A second backbone and a student, unless there is nothing to hold."""
        if not set(EARLIER_ROWS) & set(sets):
            return ()
        names = names_before_head(model)
        boost = new_backbone(model, names, auxiliary=linear_head_of(model).out_features)
        return [boost, new_backbone(model, names, alone=True, number=boost.config.number + 1)]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Count the rows of every class; the old backbone stands still."""
        new = new_grown_of(model)
        self._places = [number for number, part in enumerate(parts_of(model)) if part.is_new]
        if new:
            counted_C = self._weighed_rows(sets, new[0].config.outputs).to(next(model.parameters()).device)
            self._boosting_C = balance(counted_C, self.config.beta_boost)
            self._compressing_C = balance(counted_C, self.config.beta_compress)
            self._known = list(classes_of_sets(sets, EARLIER_ROWS))
        freeze_all_but_new(model)
        return super().prepare(model, sets)

    def _weighed_rows(self, sets: Mapping[str, ExampleSet], classes: int) -> Float[Tensor, "C"]:
        """Rows of each class as they weigh in the loss, where every set has a mean of its own."""
        counted_C = rows_of_classes(sets["learn"], classes).float()
        for name in EARLIER_ROWS:
            if name in sets and len(sets[name]):
                share = self._weight(name) * len(sets["learn"]) / len(sets[name])
                counted_C = counted_C + share * rows_of_classes(sets[name], classes)
        return counted_C

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """Boost, then compress."""
        if not self._places:
            return (Stage(),)
        share = {"boost": self.config.boost_share, "compress": 1 - self.config.boost_share}
        return tuple(
            Stage(
                name,
                epochs=share[name] * self.planned_epochs,
                phases=(Phase(name, self.sets),),
                moves=(rf"palimpsest_parts\.{place}\.",),
            )
            for name, place in zip(share, self._places, strict=True)
        )

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The terms of a stage; of a first task maximum likelihood."""
        new = new_grown_of(model)
        if not new:
            return likelihood_together(model, batches, {name: self._weight(name) for name in batches})
        return (self._boosted if phase.name == "boost" else self._compressed)(model, batches, new)

    def _weight(self, name: str) -> float:
        return 1.0 if name == "learn" else float(self.config.memory_weight)

    def _boosted(self, model: nn.Module, batches: Mapping[str, Batch], new: Sequence[GrownBackbone]) -> Terms:
        boost, student = new
        terms: dict[str, Term] = {}
        with off(model, [student]):
            both = predict_beside(model, batches, boost.telling, boost.auxiliary_logits)
        for name, (said, new_SC) in both.items():
            before_SC = _said_without(model, batches[name], [boost, student]).logits_SV
            old_SC, now_SC = (one[:, self._known] / self.config.temperature for one in (before_SC, said.logits_SV))
            losses = {
                name: (aligned_loss(said.logits_SV, said.target_S, self._boosting_C), 1.0),
                f"{name}_new": (F.cross_entropy(new_SC.float(), said.target_S, reduction="sum"), 1.0),
                f"{name}_old": (kl_divergence(old_SC, now_SC).sum(), self.config.lambda_okd),
            }
            weight = self._weight(name)
            terms |= {term: Term(total, of=name, weight=weight * factor) for term, (total, factor) in losses.items()}
        return terms

    def _compressed(self, model: nn.Module, batches: Mapping[str, Batch], new: Sequence[GrownBackbone]) -> Terms:
        boost, student = new
        terms = {}
        with off(model, [boost]):
            said = predict_together(model, batches)
        for name, one in said.items():
            teacher_SC = _said_without(model, batches[name], [student]).logits_SV
            softened = self._compressing_C, self.config.temperature
            total = balanced_distillation(teacher_SC, one.logits_SV, *softened)
            terms[name] = Term(total, of=name, weight=self._weight(name))
        return terms

    def finish(self, model: nn.Module) -> nn.Module:
        """The student is the model."""
        new = new_grown_of(model)
        if new:
            take_its_place(model, new[-1])
            detach(model, new)
        return model


def _said_without(model: nn.Module, batch: Batch, silent: Sequence[Part]) -> Predictions:
    """What the model says without some parts, as it answers when it is asked; after the one that learns was asked."""
    with asked(model), off(model, silent):
        said = batch.bare.predict(model)
    return batch.seen(said, picks=False)


METHOD = FOSTER
