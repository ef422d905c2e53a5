"""Bad teaching: answer the forget set as a model that learned nothing, the retain set as the model before.

Source: Chundawat et al. 2023, "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks using an Incompetent
Teacher", arXiv:2205.08096, its loss with two teachers.

    L = forget_weight · mean KL( p_bad^(1/T) ‖ p^(1/T) ) at forget  +  retain_weight · mean KL( p_ref^(1/T) ‖ p^(1/T) )
    at retain;   p_bad = a randomly initialised model of the same kind, fixed through the run

Departs from the paper: one mean for each set, where it shuffles both together (a random 30 % of the retain set), so
that there the sizes of the sets are the weights.
Official code: github.com/vikram2000b/bad-teaching-unlearning (MIT); an earlier version divides the divergence by the
number of classes too (``kl_div`` without "batchmean").
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import kl_divergence
from palimpsest.models.fresh import fresh_like


class BadTeacherConfig(Config):
    """Options of bad teaching."""

    forget_weight: float = Field(default=1.0, ge=0)
    """Factor of the divergence from the incompetent teacher."""
    retain_weight: float = Field(default=1.0, ge=0)
    """Factor of the divergence from the model before."""
    temperature: float = Field(default=1.0, gt=0)
    """T, softens both; 1 in the published code."""
    seed: int = Field(default=0, ge=0)
    """Of the incompetent teacher's weights."""


def teaching_loss(
    teacher_SV: Float[Tensor, "S V"], logits_SV: Float[Tensor, "S V"], temperature: float
) -> Float[Tensor, ""]:
    """KL(teacher ‖ model) of the softened distributions, summed over positions, nats.

    Args:
        teacher_SV: logits of the teacher, no gradient expected.
        logits_SV: logits of the model.
        temperature: T > 0.
    """
    return kl_divergence(teacher_SV / temperature, logits_SV / temperature).sum()


class BadTeacher(Method):
    """Distil from an incompetent teacher on forget and from the model before on retain, in one step."""

    Config = BadTeacherConfig
    use_when = (
        "images should be answered as if never learned, whatever it costs. "
        "Not first choice: in the streams it was run on it lost much of what was to stay."
    )
    approach = "distillation"
    needs = ("forget", "retain")
    reference_sets = frozenset({"retain"})
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Build the incompetent teacher: a whole second model."""
        self.teacher = fresh_like(model, self.config.seed)
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both divergences."""
        forget_SV = batches["forget"].predict(model).logits_SV  # before its teacher: it decides what is shown
        with torch.no_grad():
            bad_SV = batches["forget"].predict(self.teacher).logits_SV
        retain_SV = batches["retain"].predict(model).logits_SV
        good_SV = self.recall(model, batches["retain"]).logits_SV
        bad, good = (
            teaching_loss(teacher_SV, logits_SV, self.config.temperature)
            for teacher_SV, logits_SV in ((bad_SV, forget_SV), (good_SV, retain_SV))
        )
        return {
            "bad": Term(bad, of="forget", weight=self.config.forget_weight),
            "good": Term(good, of="retain", weight=self.config.retain_weight),
        }


METHOD = BadTeacher
