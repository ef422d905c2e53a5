"""Influence unlearning: one Newton step that takes the forget set's part out of the optimum.

Source: influence functions, Koh and Liang 2017, arXiv:1703.04730; as an unlearner with the inverse of WoodFisher (Singh
and Alistarh 2020, arXiv:2004.14340) in Jia et al. 2023, "Model Sparsity Can Simplify Machine Unlearning",
arXiv:2304.04934.

    θ = θ₀ + a · (F_R + λ I)⁻¹ · (1 / T_R) Σ_forget ∇ NLL,   λ = damping · tr(G Gᵀ) / N,   F_R = Gᵀ G
    (GᵀG + λ I)⁻¹ v = ( v − Gᵀ (G Gᵀ + λ I)⁻¹ G v ) / λ                                         Woodbury

T_R are the scored positions of retain; a = 1 is Newton's step for the optimum without the forget set. Rows of G (N, P)
are sketches of the Fisher over mini-batches of retain (``rules/fisher_sketch.py``), so that the inverse is exact and
costs N gradients of memory. A net is at no optimum and the Fisher no Hessian: unless it is given, a is the largest at
which the damage on retain is within a budget (``rules/damage_budget.py``).

As damping grows the step becomes plain gradient ascent; as it falls to 0 it leaves, to first order, what the model says
of those mini-batches as it is.

Departs from the paper: a by damage instead of a searched factor; the model's own Fisher, where WoodFisher has the
gradients at the data's labels, and an exact inverse of the sketch, where the usual code's recursion keeps two vectors.
Official code: github.com/OPTML-Group/Unlearn-Sparse (MIT), not run by us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method
from palimpsest.models.moments import whole_in_batches
from palimpsest.models.scope import trainable
from palimpsest.rules.damage_budget import Damage, WeightLine
from palimpsest.rules.fisher_sketch import sketches


class InfluenceConfig(Config):
    """Options of the influence step."""

    step: float | None = Field(default=None, gt=0)
    """a; None = as the budget lets, 1 = Newton's step."""
    budget: float = Field(default=0.05, gt=0)
    """Damage that is allowed, as the mean KL on retain in nats per scored position."""
    damping: float = Field(default=0.01, gt=0)
    """λ, as a share of the mean eigenvalue of the sketch; larger is nearer to gradient ascent."""
    sketches: int = Field(default=64, ge=1)
    """N: mini-batches of retain whose curvature is kept to; each costs the memory of a gradient."""
    sketch_batch: int = Field(default=8, ge=1)
    """Examples of one."""
    probe_rows: int = Field(default=256, ge=1)
    """Rows of retain on which the damage is read."""


def inverse_times(sketch_NP: Float[Tensor, "N P"], vector_P: Float[Tensor, "P"], damping: float) -> Float[Tensor, "P"]:
    """(GᵀG + λ I)⁻¹ v by the N × N system.

    Args:
        sketch_NP: G.
        vector_P: v.
        damping: λ over the mean eigenvalue of G Gᵀ.

    >>> inverse_times(torch.tensor([[1.0, 0.0]]), torch.tensor([4.0, 3.0]), 1.0).tolist()
    [2.0, 3.0]
    """
    gram_NN = (sketch_NP @ sketch_NP.T).double()
    ridge = max(damping * float(gram_NN.diagonal().mean()), torch.finfo(torch.float32).tiny)
    ridged_NN = gram_NN + ridge * torch.eye(len(gram_NN)).to(gram_NN)
    inside_N = torch.linalg.solve(ridged_NN, (sketch_NP @ vector_P).double())
    inverse_P: Tensor = (vector_P - sketch_NP.T @ inside_N.to(sketch_NP.dtype)) / ridge
    return inverse_P


def summed_gradient(model: nn.Module, weights: Mapping[str, nn.Parameter], examples: ExampleSet) -> Float[Tensor, "P"]:
    """Σ ∇ NLL over all scored positions of a set, fp32, the weights one after the other."""
    total = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights.values()]
    for batch in whole_in_batches(model, examples):
        with torch.enable_grad():
            loss = -batch.predict(model).logp_S.sum()
            found = torch.autograd.grad(loss, [*weights.values()], allow_unused=True)
        for into, gradient in zip(total, found, strict=True):
            if gradient is not None:
                into.add_(gradient)
    return _flat(total)


class Influence(Method):
    """Step along the inverse curvature of retain, away from forget."""

    Config = InfluenceConfig
    use_when = (
        "single examples must go at once, at a damage you state. "
        "Not where each must end at the level of never seen: it goes as far as the budget."
    )
    approach = "editing"
    needs = ("forget", "retain")
    reference_sets = frozenset({"retain"})
    edits = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Nothing is found yet."""
        self._found: Mapping[str, float] = {}
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Gradient, curvature, step; then how far."""
        options, weights = self.config, trainable(model)
        away_P = summed_gradient(model, weights, sets["forget"])
        rows, positions = [], 0
        most = options.sketches * options.sketch_batch
        for sketch, count in sketches(model, sets["retain"], limit=most, batch_size=options.sketch_batch):
            rows.append(_flat(sketch))
            positions += count
        whole = positions * len(sets["retain"]) / min(most, len(sets["retain"]))
        sketch_NP = torch.stack(rows) / positions**0.5
        step_P = inverse_times(sketch_NP, away_P / whole, options.damping)
        line = WeightLine({n: w.detach().clone() for n, w in weights.items()}, _cut(-step_P, weights))
        if options.step is None:
            damage = Damage(self.recall, sets["retain"], options.probe_rows)
            self._found = vars(line.go_within(model, damage, options.budget))
        else:
            line.put(model, options.step)
            self._found = {"size": options.step}
        return line.names

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """How far the step went (1 is Newton's), and at what damage."""
        return self._found


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _cut(flat_P: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``_flat``, by name."""
    parts = torch.split(flat_P, [weight.numel() for weight in weights.values()])
    return {name: part.view(weight.shape) for (name, weight), part in zip(weights.items(), parts, strict=True)}


METHOD = Influence
