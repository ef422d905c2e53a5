"""RepSelect: one selective step against the forget set, its length found by the damage that is allowed.

Source: "RepSelect", arXiv:2606.17168 (2026), adaptive variant; known to us from notes on its code, not from its text.

    G = ∇_W Σ log p(forget tokens),   G ≈ Σ_i s_i u_i v_iᵀ,  i = 1 … q      for every matrix W of an MLP, once
    Ĝ = (I − U(I − D)Uᵀ) G (I − V(I − D)Vᵀ),   D = diag(s_q / s_i) ("soft") or 0 ("hard")
    W = W₀ − a Ĝ,   a the largest with  0.95 B ≤ mean KL( p_W₀ ‖ p_W ) ≤ B  on retain

Of all that pulls on a matrix the strongest directions are those that much else uses, too; damped or taken out, what is
left is the forget set's own. The one number to choose is B. Both sides of G have its own components, so component i is
scaled by (s_q / s_i)².

Departs from the paper: no adapter is trained as a simulated attacker before G is taken; the mean KL is over label
positions of a probe of the retain set. With scope.kind = lora the matrices are an adapter's. Memory: two copies.
Official code: github.com/filyp/open-unlearning (MIT), not run by us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Method
from palimpsest.models.mlp_weights import mlp_weights
from palimpsest.models.moments import whole_in_batches
from palimpsest.rules.damage_budget import BudgetConfig, Damage, WeightLine


class RepSelectConfig(BudgetConfig):
    """Options of RepSelect."""

    rank: int = Field(default=16, ge=0)
    """q: principal components that are damped; 0 leaves the plain gradient."""
    components: Literal["soft", "hard"] = "soft"
    """"soft" damps them to the size of the last one and below, "hard" takes them out."""


def selected(gradient_OI: Float[Tensor, "O I"], rank: int, *, hard: bool) -> Float[Tensor, "O I"]:
    """Ĝ: a gradient without its strongest principal components, or with them damped; fp32.

    Args:
        gradient_OI: of one matrix.
        rank: q; never so many that nothing is left, so at most one less than the smaller side.
        hard: take them out.

    >>> selected(torch.diag(torch.tensor([4.0, 2.0, 1.0])), 2, hard=False).diag().tolist()
    [1.0, 2.0, 1.0]
    >>> selected(torch.diag(torch.tensor([4.0, 2.0, 1.0])), 2, hard=True).diag().round(decimals=5).tolist()
    [0.0, 0.0, 1.0]
    """
    gradient_OI = gradient_OI.float()
    count = min(rank, min(gradient_OI.shape) - 1)
    if count < 1:
        return gradient_OI
    U_OK, s_K, Vt_KI = torch.linalg.svd(gradient_OI, full_matrices=False)
    s_Q = s_K[:count]
    kept_Q = torch.zeros_like(s_Q) if hard else (s_Q[-1] / s_Q.clamp(min=torch.finfo(s_Q.dtype).tiny)).square()
    left_OI: Tensor = gradient_OI - (U_OK[:, :count] * (s_Q * (1 - kept_Q))) @ Vt_KI[:count]
    return left_OI


def likelihood_gradient(
    model: nn.Module, weights: Mapping[str, nn.Parameter], examples: ExampleSet
) -> dict[str, Float[Tensor, "O I"]]:
    """G: the gradient of the log-likelihood of all label tokens of a set, by name, in fp32."""
    total = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    for batch in whole_in_batches(model, examples):
        with torch.enable_grad():
            logp = batch.predict(model).logp_S.sum()
            found = torch.autograd.grad(logp, [*weights.values()], allow_unused=True)
        for into, gradient in zip(total.values(), found, strict=True):
            if gradient is not None:
                into.add_(gradient)
    return total


class RepSelect(Method):
    """Step down the likelihood of forget along what is its own, as far as retain can bear."""

    Config = RepSelectConfig
    use_when = (
        "texts must go at once, at a damage you state. "
        "Not where each row must end at the level of never seen: it goes as far as the budget."
    )
    approach = "editing"
    needs = ("forget", "retain")
    reference_sets = frozenset({"retain"})
    modalities = ("text",)
    edits = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """There is something to edit."""
        mlp_weights(model, "rep_select")
        self._found: Mapping[str, float] = {}
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Find the direction of every matrix, then how far along."""
        weights, options = mlp_weights(model, "rep_select"), self.config
        gradients = likelihood_gradient(model, weights, sets["forget"])
        hard = options.components == "hard"
        directions = {name: selected(g_OI, options.rank, hard=hard) for name, g_OI in gradients.items()}
        line = WeightLine({name: weight.detach().clone() for name, weight in weights.items()}, directions)
        damage = Damage(self.recall, sets["retain"], options.probe_rows)
        self._found = vars(line.go_within(model, damage, options.budget))
        return line.names

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """How far the edit went, and at what damage."""
        return self._found


METHOD = RepSelect
