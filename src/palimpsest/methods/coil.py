"""COIL: old rows of the head are carried to new classes to begin with, and new ones back to old classes to be held.

Source: Zhou et al. 2021, "Co-Transport for Class-Incremental Learning", arXiv:2107.12654; known from notes, not read.

    P = argmin Σ_on P_on ‖mu_o − mu_n‖ + reg · Σ_on P_on (log P_on − 1),   rows and columns of P sum alike
    forward:   w_n ← calibration · Σ_o P_on w_o / Σ_o P_on          once, for the rows that the head got for this run
    backward:  v_o = calibration · Σ_n P_on w_n / Σ_n P_on          in every step
    L = Σ_set w_set · ( − mean log p(class) + lambda_kd · mean KL( p_ref^(1/T) ‖ p^(1/T) )
                        + lambda_back · mean KL( p_ref^(1/T) ‖ softmax(V f / T) ) )

mu are the means of the classes' features at the start, each of length 1; o goes over the classes of the memory, n over
those that only the learn set has. The first divergence is over all classes but the new ones, the second over those of
the memory; f is what enters the head. Sets: learn (w = 1), retain and replay (memory_weight). Without a memory it is
fine-tuning.

Deletion: all is in one plain model, so by class or example it is ug_clu, scrub or salun on the version.

Departs from the paper: rows of a plain linear head are carried as they are, where it has a cosine head; the plan is
made once, of the memory as it is at the start; factors of the divergences are ours, a KL stands for a cross-entropy.
Official code: github.com/zhoudw-zdw/MM21-Coil; not read for this.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch, Predictions, predict_together
from palimpsest.errors import PlanError
from palimpsest.models.divergence import kl_divergence
from palimpsest.models.hooked import caught_inputs
from palimpsest.models.parts.backbone_growth import EARLIER_ROWS, class_feature_means, classes_of_sets, linear_head_of
from palimpsest.models.sinkhorn import sinkhorn, transported
from palimpsest.models.wide_predictions import predict_beside


class COILConfig(Config):
    """Options of transport between heads."""

    sinkhorn_reg: float = Field(default=0.464, gt=0)
    """Weight of the entropy of the plan; 0.464 in the paper. Large: every class is the mean of all others."""
    calibration: float = Field(default=1.5, gt=0)
    """Factor of rows that are carried; 1.5 in the paper."""
    lambda_kd: float = Field(default=1.0, ge=0)
    """Factor of the distillation of the model before."""
    lambda_back: float = Field(default=1.0, ge=0)
    """Factor of the distillation into the rows that are carried back."""
    temperature: float = Field(default=2.0, gt=0)
    """T of both distillations."""
    memory_weight: float = Field(default=1.0, ge=0)
    """Factor of the losses on the memory."""


def class_plan(old_OD: Float[Tensor, "O D"], new_ND: Float[Tensor, "N D"], reg: float) -> Float[Tensor, "O N"]:
    """How much of each old class goes to each new one, by the distance of their means at length 1.

    >>> old, new = torch.tensor([[1.0, 0.0], [0.0, 9.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    >>> class_plan(old, new, 0.1).round(decimals=2).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    return sinkhorn(torch.cdist(F.normalize(old_OD.double()), F.normalize(new_ND.double())), reg)


def cooled_divergence(
    reference_SO: Float[Tensor, "S O"], logits_SO: Float[Tensor, "S O"], temperature: float
) -> Float[Tensor, ""]:
    """KL of distributions at temperature T, summed over positions, nats.

    >>> cooled_divergence(torch.zeros(1, 2), torch.zeros(1, 2), 2.0).item()
    0.0
    """
    return kl_divergence(reference_SO.float() / temperature, logits_SO.float() / temperature).sum()


class COIL(Method):
    """Maximum likelihood, held by what the head said and by what the new rows say of the old classes."""

    Config = COILConfig
    use_when = (
        "new classes resemble old ones and the model may not grow. "
        "Not without a memory (--replay), whose classes are carried to the new ones: then it is fine-tuning."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain", "replay")
    modalities = ("labels", "image")
    reference_sets = frozenset({"learn", "retain", "replay"})

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Carry old rows to the new classes."""
        super().prepare(model, sets)
        self._old = classes_of_sets(sets, EARLIER_ROWS)
        self._new = tuple(c for c in classes_of_sets(sets, ("learn",)) if c not in self._old)
        self._holds = bool(set(EARLIER_ROWS) & set(self.sets))
        self._plan_ON: Tensor | None = None
        if self._old and self._new:
            if hasattr(model, "peft_config"):
                raise PlanError("coil carries rows of the head, and an adapter lies on it; accepted: scope.kind = all")
            means = class_feature_means(model, sets)
            old_OD, new_ND = (torch.stack([means[c] for c in classes]) for classes in (self._old, self._new))
            self._plan_ON = class_plan(old_OD, new_ND, self.config.sinkhorn_reg)
            self._carry_forward(linear_head_of(model))
        return model

    @torch.no_grad()
    def _carry_forward(self, head: nn.Linear) -> None:
        """Rows of zeros are those that nobody taught."""
        if self._plan_ON is None or not head.weight.requires_grad:
            return
        for tensor in (head.weight, head.bias):
            if tensor is not None:
                rows = tensor if tensor.ndim == 2 else tensor[:, None]
                carried = self.config.calibration * transported(self._plan_ON, rows[list(self._old)])
                for number, row in zip(self._new, carried, strict=True):
                    if not rows[number].any():
                        rows[number] = row

    def _carried_back(self, head: nn.Linear) -> Float[Tensor, "O D"]:
        """V, rows for the old classes made of those of the new ones."""
        if self._plan_ON is None:
            raise TypeError("rows are carried back by a plan, and there is none")
        carried_OD = transported(self._plan_ON.T, head.weight[list(self._new)])
        return carried_OD * float(self.config.calibration)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The terms of every set."""
        terms: dict[str, Term] = {}
        for name, (said, back_SO) in self._asked(model, batches).items():
            weight = 1.0 if name == "learn" else self.config.memory_weight
            terms[name] = Term(-said.logp_S.sum(), of=name, weight=weight)
            if self._holds:
                terms |= self._held(name, self.recall(model, batches[name]), said, back_SO, weight)
        return terms

    def _asked(self, model: nn.Module, batches: Mapping[str, Batch]) -> dict[str, tuple[Predictions, Tensor | None]]:
        if self._plan_ON is None:
            return {name: (said, None) for name, said in predict_together(model, batches).items()}
        head = linear_head_of(model)
        back = partial(F.linear, weight=self._carried_back(head))
        return {**predict_beside(model, batches, partial(caught_inputs, head), back)}

    def _held(
        self, name: str, before: Predictions, said: Predictions, back_SO: Tensor | None, weight: float
    ) -> dict[str, Term]:
        options = self.config
        kept = [c for c in range(said.logits_SV.shape[-1]) if c not in self._new]
        kd = cooled_divergence(before.logits_SV[:, kept], said.logits_SV[:, kept], options.temperature)
        terms = {f"{name}_kd": Term(kd, of=name, weight=weight * options.lambda_kd)}
        if back_SO is not None:
            off = cooled_divergence(before.logits_SV[:, list(self._old)], back_SO, options.temperature)
            terms[f"{name}_back"] = Term(off, of=name, weight=weight * options.lambda_back)
        return terms


METHOD = COIL
