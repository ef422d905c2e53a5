"""LUNAR: at one block, what must go is sent where refusals are. It redirects, it does not erase.

Source: Shen et al. 2025, "LUNAR: LLM Unlearning via Neural Activation Redirection", arXiv:2502.07218; its closed form
for one down-projection. Known to us from notes, not from its text.

    r = mean h(refusing tokens) − mean h(forget tokens)              h the output of one block
    Ŵ = argmin  mean_f ‖ Ŵ a_f − (W a_f + c r) ‖² + beta · mean_r ‖ Ŵ a_r − W a_r ‖² + mu · ‖ Ŵ − W ‖²
      = W + c · r · x,   x = ( C_f + beta C_r + mu I )⁻¹ m_f

a is what enters the block's last feed-forward matrix W, C = mean a aᵀ, m_f = mean a_f, all over label tokens; mu is a
share of the mean diagonal of C_f + beta C_r. A change of rank one, so c is free: unless it is given it is as large as
the damage on retain lets (``rules/damage_budget.py``). What was known stays in the weights below; a report that says
"forgotten" says it of the answers. On a small model whose rows are all of one kind it is blunt: on
``llama-stories260k`` forget ES 1.00 to 0.45 at retain 0.92.

Departs from the paper: its refusing prompts are harmful or unanswerable questions, which a base model does not refuse;
here they are the rows' own questions with a refusal behind (``derived/refusal.py``). Label tokens, not the last of the
prompt. Means over each set, so that retain does not outweigh forget by its size.
Official code: github.com/facebookresearch/LUNAR (MIT): Adam where the paper has the closed form, layer 22, c = 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Method
from palimpsest.errors import PlanError
from palimpsest.models.activations import block_names
from palimpsest.models.mlp_weights import as_stored, last_layers, movable, weight_of
from palimpsest.models.moments import Inflow, inflow_of, mean_output
from palimpsest.rules.damage_budget import BudgetConfig, Damage, WeightLine


class LUNARConfig(BudgetConfig):
    """Options of LUNAR."""

    layer: int | None = Field(default=None, ge=0)
    """Block that is edited, from 0; None = two thirds of the way up, as the published 22 of 32."""
    coefficient: float | None = Field(default=None, gt=0)
    """c; None = as the budget lets. 2 in the published code."""
    beta: float = Field(default=100.0, ge=0)
    """Weight of what must stay in the least squares. Sums over positions, as in the paper, would weigh the sets by
    their sizes; rows of one kind need retain to weigh far more."""
    ridge: float = Field(default=1e-5, gt=0)
    """mu, as a share of the mean diagonal."""


def redirection(
    forget: Inflow, retain: Inflow, direction_D: Float[Tensor, "D"], *, beta: float, ridge: float
) -> Float[Tensor, "D F"]:
    """R · xᵀ, the change of the matrix for c = 1, fp64.

    Args:
        forget: what enters it on forget.
        retain: and on retain.
        direction_D: r.
        beta: weight of retain.
        ridge: mu as a share of the mean diagonal.
    """
    second_FF = forget.second_FF.double() + beta * retain.second_FF.double()
    ridged_FF = second_FF + ridge * second_FF.diagonal().mean() * torch.eye(len(second_FF)).to(second_FF)
    return torch.outer(direction_D.double(), torch.linalg.solve(ridged_FF, forget.mean_F.double()))


class LUNAR(Method):
    """Refit one down-projection so that forget goes towards refusals and retain stays."""

    Config = LUNARConfig
    use_when = (
        "answers about some rows must turn away, in seconds. "
        "Not where knowledge must be gone: it redirects, it does not erase."
    )
    approach = "editing"
    needs = ("forget", "refusal", "retain")
    reference_sets = frozenset({"retain"})
    modalities = ("text",)
    edits = True
    edits_matrices = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Find the block and its matrix, and see that it may move."""
        layers = last_layers(model, "lunar")
        places = [(block, one) for block in block_names(model) for one in layers if one.startswith(f"{block}.")]
        layer, last = self.config.layer, len(places) - 1
        if layer is not None and layer > last:
            raise PlanError(f"lunar.layer = {layer}: the model has {len(places)} blocks; accepted: 0 to {last}")
        self._block, self._layer = places[2 * len(places) // 3 if layer is None else layer]
        self._weights(model)
        self._found: Mapping[str, float] = {}
        return super().prepare(model, sets)

    def _weights(self, model: nn.Module) -> dict[str, nn.Parameter]:
        return movable({f"{self._layer}.weight": weight_of(model.get_submodule(self._layer))}, "lunar")

    @torch.no_grad()
    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Direction, least squares, then how far."""
        options, weights = self.config, self._weights(model)
        refusing_D, knowing_D = (mean_output(model, self._block, sets[name]) for name in ("refusal", "forget"))
        forget, retain = (inflow_of(model, self._layer, sets[name]) for name in ("forget", "retain"))
        change_DF = redirection(forget, retain, refusing_D - knowing_D, beta=options.beta, ridge=options.ridge)
        ((name, weight),) = weights.items()
        away = -as_stored(model.get_submodule(self._layer), change_DF.float())
        line = WeightLine({name: weight.detach().clone()}, {name: away})
        if options.coefficient is None:
            damage = Damage(self.recall, sets["retain"], options.probe_rows)
            self._found = vars(line.go_within(model, damage, options.budget))
        else:
            line.put(model, options.coefficient)
        return line.names

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """How far the edit went, and at what damage."""
        return self._found


METHOD = LUNAR
