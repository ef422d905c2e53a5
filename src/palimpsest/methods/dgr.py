"""DGR: replay with the rows of the head kept in balance, each class's gradient by what it had so far, and distillation.

Source: He 2024, "Gradient Reweighting: Towards Imbalanced Class-Incremental Learning", CVPR, arXiv:2402.18528; known
to us from a summary of LAMDA-PILOT and its code.

    L     = − mean log softmax(z + log π)_y  over learn and memory,   π_k the share of class k in what is drawn
    L_kd  = mean KL( p_ref^(1/T) ‖ p^(1/T) )  over the old classes alone, at the same rows
    w_k   = (min over its group of G / G_k) · s_group,   G_k += ‖∂L/∂W_k‖ at every step
    s_old = min(1, Ḡ_new / Ḡ_old),   s_new = min(1, Ḡ_old / Ḡ_new · exp(−gamma · |old| / |all|))
    ∂W_k  = w_k ∂L/∂W_k + u ∂L_kd/∂W_k,   u = ‖(w_k ‖∂L/∂W_k‖)_k‖ / ‖(‖∂L_kd/∂W_k‖)_k‖
    other weights: ∂L + lambda · (|old| / |new|) · ∂L_kd

The groups are the classes of learn (new) and all others of the head (old). With "memory" the retain set, the replay
set or both, each with as much weight as the learn set. Without one it distils on the new rows alone; on a first run,
where everything is new, there is nothing to distil. The two gradients are taken one after the other over the same
batches.

To delete: ``ug_clu``, ``scrub`` or ``salun`` on the learned version, and the rows leave the memory.

Departs from the paper: s_new holds new classes back where they had more gradient than the old ones; the code has
Ḡ_new / Ḡ_old there, which lets them be. Classes without any gradient yet weigh 1. Where the distillation has next to
no gradient (at the first step there is none) u is lambda instead of noise blown up.
Official code: that of LAMDA-PILOT (models/dgr.py); see above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.any_set import labels_of
from palimpsest.data.encode.batch import Batch, predict_together
from palimpsest.models.divergence import kl_divergence
from palimpsest.models.families import of_model
from palimpsest.models.head_inputs import head_in
from palimpsest.models.scope import trainable

_NEXT_TO_NONE = 1e-6  # of the other gradient


class DGRConfig(Config):
    """Options of DGR."""

    gamma: float = Field(default=1.0, ge=0)
    """How much new classes are held back as old ones become many; 0 = not beyond the balance."""
    kd_weight: float = Field(default=1.0, ge=0)
    """lambda, factor of the distillation below the head; 0 leaves it out, in the head too."""
    temperature: float = Field(default=2.0, gt=0)
    """T of the distillation; the paper's code has 2."""


def class_weights(norm_C: Float[Tensor, "C"], new_C: Bool[Tensor, "C"], gamma: float) -> Float[Tensor, "C"]:
    """w: within its group the class with the least gradient so far weighs most, and neither group more than the other.

    Args:
        norm_C: G, summed norms; a class with 0 weighs 1 and counts nowhere.
        new_C: which classes are new.
        gamma: >= 0.

    >>> class_weights(torch.tensor([2.0, 4.0, 1.0]), torch.tensor([True, True, False]), gamma=0.0)
    tensor([0.3333, 0.1667, 1.0000])
    """
    weight_C = torch.ones_like(norm_C)
    mean = {}
    for is_new in (False, True):
        group_C = (new_C == is_new) & (norm_C > 0)
        if group_C.any():
            mean[is_new] = norm_C[group_C].mean()
            weight_C[group_C] = norm_C[group_C].min() / norm_C[group_C]
    if len(mean) == 2:
        held = math.exp(-gamma * int((~new_C).sum()) / len(new_C))
        weight_C[~new_C & (norm_C > 0)] *= (mean[True] / mean[False]).clamp(max=1)
        weight_C[new_C & (norm_C > 0)] *= (held * mean[False] / mean[True]).clamp(max=1)
    return weight_C


def distilled_share(
    weight_C: Float[Tensor, "C"], norm_C: Float[Tensor, "C"], kd_norm_C: Float[Tensor, "C"], kd_weight: float
) -> float:
    """u: by it the distillation pulls the head as much as the reweighted loss does.

    >>> ones = torch.ones(2)
    >>> round(distilled_share(ones, torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]), 1.0), 4)
    2.5
    >>> distilled_share(ones, torch.tensor([3.0, 4.0]), torch.zeros(2), 0.5)
    0.5
    """
    wanted, there = (weight_C * norm_C).norm(), kd_norm_C.norm()
    return kd_weight if not kd_weight or there <= _NEXT_TO_NONE * wanted else float(wanted / there)


def with_prior(logits_SV: Float[Tensor, "S V"], prior_V: Float[Tensor, "V"]) -> Float[Tensor, "S V"]:
    """Logits plus log π; −inf for a class that is never drawn, which then has no gradient.

    >>> with_prior(torch.zeros(1, 2), torch.tensor([1.0, 0.0])).tolist()
    [[0.0, -inf]]
    """
    return logits_SV.float() + prior_V.to(logits_SV.device).log()


class DGR(Method):
    """Balanced replay with distillation."""

    Config = DGRConfig
    use_when = (
        "you learn new classes, few rows of the old were kept, unevenly. "
        "Not without a memory (--retain or --replay): then lwf says the same with less."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain", "replay")
    modalities = ("labels", "image")
    reference_sets = frozenset({"learn", "retain", "replay"})

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Which classes are new, and how often each is drawn."""
        super().prepare(model, sets)
        head, num_classes = head_in(model, "dgr"), of_model(model).num_outputs(model)
        rows = {name: p for name, p in trainable(model).items() if head.has(name) and len(p) == num_classes}
        self._rows = tuple(rows)
        counts = [labels_of(sets[name]).bincount(minlength=num_classes).float() for name in self.sets]
        self._prior_V = torch.stack([count_V / count_V.sum() for count_V in counts]).mean(dim=0)
        self._new_V = labels_of(sets["learn"]).bincount(minlength=num_classes) > 0
        self._norm_V = torch.zeros(num_classes)
        self._distilled: dict[str, Tensor] = {}
        self._last: dict[str, float] = {}
        return model

    def phases(self, step: int, planned: int) -> Sequence[Phase]:
        """The gradient of the distillation, kept; then that of the loss at the same batches, and both together."""
        learn = Phase("learn", self.sets, again=self._distils)
        return (Phase("distil", self.sets, update=False), learn) if self._distils else (learn,)

    @property
    def _distils(self) -> bool:
        """Are there at least two classes to distil?"""
        return bool(self.config.kd_weight) and int((~self._new_V).sum()) > 1

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Means over each set, and of these the mean."""
        share = 1 / len(self.sets)
        said = predict_together(model, batches)
        if phase.name == "learn":
            shown = {name: (with_prior(one.logits_SV, self._prior_V), one.target_S) for name, one in said.items()}
            return {
                name: Term(F.cross_entropy(*pair, reduction="sum"), of=name, weight=share)
                for name, pair in shown.items()
            }
        old_V, heat = ~self._new_V, self.config.temperature
        terms = {}
        for name, one in said.items():
            before_SV = self.recall(model, batches[name]).logits_SV[:, old_V] / heat
            terms[name] = Term(kl_divergence(before_SV, one.logits_SV[:, old_V] / heat).sum(), of=name, weight=share)
        return terms

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Keep the gradient of the distillation, or put the two together."""
        moving = {name: p for name, p in trainable(model).items() if p.grad is not None}
        if phase.name == "distil":
            self._distilled = {name: p.grad.clone() for name, p in moving.items() if p.grad is not None}
            return
        norm_V = self._row_norms({name: p.grad for name, p in moving.items()})
        kd_norm_V = self._row_norms(self._distilled)
        self._norm_V += norm_V
        weight_V = class_weights(self._norm_V, self._new_V, self.config.gamma)
        head_share = distilled_share(weight_V, norm_V, kd_norm_V, self.config.kd_weight)
        new = int(self._new_V.sum())
        body_share = self.config.kd_weight * (len(self._new_V) - new) / new
        for name, parameter in moving.items():
            self._put_together(name, parameter, weight_V, head_share if name in self._rows else body_share)
        self._last = {"head_distilled": head_share, "least_weight": float(weight_V.min())}
        self._distilled = {}

    def _put_together(self, name: str, parameter: nn.Parameter, weight_V: Tensor, share: float) -> None:
        gradient = parameter.grad
        if gradient is None:
            return
        if name in self._rows:
            gradient.mul_(weight_V.to(gradient).view(-1, *[1] * (gradient.ndim - 1)))
        if name in self._distilled:
            gradient.add_(self._distilled[name], alpha=share)

    def _row_norms(self, gradients: Mapping[str, Tensor | None]) -> Float[Tensor, "V"]:
        """Norm of each class's row over the matrices of the head; 0 without any."""
        found = [gradients.get(name) for name in self._rows]
        squares = [g.float().square().sum(dim=1).cpu() for g in found if g is not None and g.ndim > 1]
        return torch.stack(squares).sum(dim=0).sqrt() if squares else torch.zeros_like(self._norm_V)

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """How far the balance goes."""
        return self._last

    def state(self) -> Mapping[str, Tensor]:
        """What each class had so far."""
        return {"norms": self._norm_V}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._norm_V = state["norms"].clone()


METHOD = DGR
