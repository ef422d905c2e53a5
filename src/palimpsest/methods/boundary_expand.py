"""Boundary expand: forget examples are moved into a class that does not exist, which is dropped afterwards.

Source: Chen, Gao, Liu, Peng, Wang 2023, "Boundary Unlearning", CVPR 2023, its section on boundary expanding; known to
us from notes and from public re-implementations.

    z⁺ = (z_1 … z_K, b)                        the logits, and one of a shadow class
    L  = − mean log softmax(z⁺)_{K+1}  at forget  =  mean log( 1 + Σ_c exp(z_c − b) )
    afterwards the shadow class is dropped:  p = softmax(z_1 … z_K)

Every logit of a forget example that stands above b is pushed below it, its own class's first, since that has the
largest share. b is where the likeliest wrong class stands on average over the forget set before the run, so that what
is left, once the shadow is gone, is as sure of its own class as it was of the runner-up.

Departs from the paper: its shadow class is a new row of the head that is trained along; such a row alone can bring the
loss to 0, and the forget examples are then told as before once it is dropped. Here its logit is a constant, so that
only what stays in the model can move. What must stay is the controlled run's to repair, as there no retain set is
looked at.
Official code: named in the paper, not seen by us.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.modes import asked
from palimpsest.models.moments import whole_in_batches
from palimpsest.models.nearest_wrong import likeliest_wrong


def shadow_loss(logits_SV: Float[Tensor, "S V"], shadow: float) -> Float[Tensor, ""]:
    """−Σ_s log p of the shadow class, nats: log(1 + Σ_c exp(z_c − b)), summed.

    >>> round(shadow_loss(torch.zeros(2, 3), 0.0).item(), 4)  # two positions, four classes alike: 2 ln 4
    2.7726
    """
    above_S = (logits_SV.float() - shadow).logsumexp(dim=1)
    return torch.nn.functional.softplus(above_S).sum()


@torch.no_grad()
def runner_up(model: nn.Module, examples: ExampleSet) -> float:
    """Mean over the scored positions of the largest logit but the right one's."""
    total, positions = 0.0, 0
    with asked(model):
        for batch in whole_in_batches(model, examples):
            said = batch.predict(model)
            wrong_S = likeliest_wrong(said.logits_SV, said.target_S)
            total += float(said.logits_SV.float().gather(1, wrong_S[:, None]).sum())
            positions += len(wrong_S)
    return total / max(1, positions)


class BoundaryExpand(Method):
    """Descend on the shadow class of every forget example."""

    use_when = (
        "a class of images must go nowhere in particular. "
        "Not for single images whose class stays: their own class remains the likeliest."
    )
    approach = "relabelling"
    needs = ("forget",)
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Where the shadow class stands, at the weights that the run starts from."""
        self._shadow = runner_up(model, sets["forget"])
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token mean."""
        return {"shadow": Term(shadow_loss(batches["forget"].predict(model).logits_SV, self._shadow), of="forget")}

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """B."""
        return {"shadow": self._shadow}


METHOD = BoundaryExpand
