"""l1-sparse: fine-tuning on what stays under an L1 penalty, so that what nothing needs any more falls to zero.

Source: Jia et al. 2023, "Model Sparsity Can Simplify Machine Unlearning", arXiv:2304.04934, its sparsity-aware
unlearning; the decay of the factor is that of its published code.

    L = − mean log p(retain tokens) + γ_t Σ_j |θ_j|,   γ_t = γ · (1 − t / T)

The forget set is not looked at: it is forgotten as far as only it held the weights up. γ falls to 0 so that the last
steps fit what stays. A controlled run does not know T, so γ stays as it is there, and its cooling comes after.

Departs from the paper: none in the loss; the sum goes over the weights that may move. Departs from catastrophic
forgetting by fine-tuning alone (γ = 0), which is its limiting case.
Official code: github.com/OPTML-Group/Unlearn-Sparse (MIT), FT_l1; not run by us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.scope import trainable


class L1SparseConfig(Config):
    """Options of l1-sparse."""

    gamma: float = Field(default=5e-4, ge=0)
    """γ: factor of the L1 norm at the start, per weight; 5e-4 in published recipes for ResNets, 0 is fine-tuning."""


def l1_norm(weights: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Σ |θ| over all of them, fp32.

    >>> l1_norm([torch.tensor([1.0, -2.0]), torch.tensor([[0.5]])]).item()
    3.5
    """
    return torch.stack([weight.float().abs().sum() for weight in weights]).sum()


class L1Sparse(Method):
    """Descend on retain and on the size of the weights."""

    Config = L1SparseConfig
    use_when = (
        "you want the baseline that looks at no forget row. "
        "Not where forgetting must be fast or sure: nothing aims at the forget set."
    )
    approach = "continual"
    needs = ("retain",)
    defaults = {"learning_rate": 1e-5}

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """One step over retain, with the share of γ that is left."""
        return (Phase("sparse", self.sets, scale=max(0.0, 1 - step / max(1, planned))),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The token mean over retain, and the norm."""
        said = batches["retain"].predict(model)
        norm = l1_norm(trainable(model).values()) * batches["retain"].num_scored  # each micro-batch its share of it
        return {
            "retain": Term(-said.logp_S.sum(), of="retain"),
            "l1": Term(norm, of="retain", weight=self.config.gamma * phase.scale),
        }


METHOD = L1Sparse
