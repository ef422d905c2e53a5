"""Representation misdirection for unlearning (RMU).

Source: Li et al. 2024, "The WMDP Benchmark: Measuring and Reducing Malicious Use With Unlearning", arXiv:2403.03218,
its section on RMU; met at the answer tokens, as Wang et al. (ICLR 2025, UWC) run it.

    L   = mean over forget tokens of ‖ h(x_t) − c · u ‖² / D  +  alpha · mean over retain tokens of R(x_t)
    R   = ‖ h(x_t) − h_ref(x_t) ‖² / D,    or with retain_term = "kl"  KL( p_ref ‖ p )
    u   = v / ‖v‖,  v uniform in [0, 1)^D, drawn from the option ``seed``

h is the output of one block at the positions that predict a label token, D its width. The target is a function of the
seed, so a resumed run chases the same one. Blocks above the chosen one get no gradient but from the KL.

Departs from the paper: label positions only (its passages have no prompt); all parameters that the scope lets move, as
in open-unlearning, where the paper moves three down-projections (``scope.kind=layers`` does that); token means over the
whole step, where the official code averages over the padded batch and open-unlearning divides the rows of a batch by
each other's lengths; alpha is 1200 in the paper, 1 in open-unlearning.
Official code: github.com/centerforaisafety/wmdp (MIT); its target is not seeded by itself and not saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.errors import PlanError
from palimpsest.models.activations import activations_of, block_names
from palimpsest.models.divergence import kl_divergence


class RMUConfig(Config):
    """Options of RMU."""

    layer: int | None = Field(default=None, ge=0)
    """Block whose output is misdirected, from 0; None = the one in the middle. The paper has 7 of 32."""
    coefficient: float = Field(default=2.0, gt=0)
    """c: length of the target; 2 in UWC and open-unlearning, 6.5 in the paper. Activations grow with the model."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term."""
    retain_term: Literal["hidden", "kl"] = "hidden"
    """"hidden" as in the paper: the block's output stays; "kl" as in UWC: what the model says stays."""
    seed: int = 0
    """Of the target."""


def target_direction(width: int, seed: int) -> Float[Tensor, "D"]:
    """u: uniform in [0, 1) at each coordinate, of length 1; the same on any machine.

    >>> bool(target_direction(3, 0).min() >= 0), round(target_direction(3, 0).norm().item(), 4)
    (True, 1.0)
    """
    v_D = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    u_D: Tensor = v_D / v_D.norm()
    return u_D


def distance(hidden_SD: Float[Tensor, "S D"], target_SD: Float[Tensor, "*S D"]) -> Float[Tensor, ""]:
    """‖h − target‖² / D at each position, summed over positions, in fp32.

    >>> distance(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([1.0, 1.0])).item()
    3.0
    """
    squared_S: Tensor = (hidden_SD.float() - target_SD.float()).square().mean(-1)
    return squared_S.sum()


def block_of(model: nn.Module, layer: int | None) -> str:
    """Name of the chosen block.

    Raises:
        PlanError: the model has no blocks that could be told, or not so many.
    """
    names = block_names(model)
    if not names:
        raise PlanError("rmu: the model has no list of blocks; accepted: a model with one, as transformers' have")
    if layer is not None and layer >= len(names):
        raise PlanError(f"rmu.layer = {layer}: the model has {len(names)} blocks; accepted: 0 to {len(names) - 1}")
    return names[len(names) // 2 if layer is None else layer]


class RMU(Method):
    """Move one block's output at the forget tokens to a random place, keep it on retain."""

    Config = RMUConfig
    use_when = (
        "knowledge of a kind must go, and nonsense may come in its place. "
        "Not where single rows must end as if never seen: it aims at no such level."
    )
    approach = "representation"
    needs = ("forget", "retain")
    reference_sets = frozenset({"retain"})
    modalities = ("text",)
    reads_prefixes = True
    defaults = {"learning_rate": 1e-5}

    @classmethod
    def asks_outputs_of(cls, config: Any, model: nn.Module) -> tuple[str, ...]:
        """The block's output, where that is what stays."""
        return (block_of(model, config.layer),) if config.retain_term == "hidden" else ()

    def check(self, model: nn.Module) -> None:
        """There is such a block."""
        block_of(model, self.config.layer)

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Find the block, see that it can be moved, draw the target."""
        self.place = block_of(model, self.config.layer)
        device = next(model.parameters()).device
        forget = sets["forget"].plain()
        with torch.enable_grad():
            hidden_SD, _ = activations_of(model, self.place, forget.batch(forget.ids[:1]).to(device))
        if not hidden_SD.requires_grad:
            raise PlanError(
                f"rmu: nothing that may move acts on {self.place}; let parameters up to that block move (scope.names), "
                "or set rmu.layer to a later one"
            )
        u_D = target_direction(hidden_SD.shape[-1], self.config.seed)
        self.target_D = self.config.coefficient * u_D.to(device)
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both terms."""
        hidden_SD, _ = activations_of(model, self.place, batches["forget"])
        return {
            "misdirect": Term(distance(hidden_SD, self.target_D), of="forget"),
            "retain": Term(self._moved(model, batches["retain"]), of="retain", weight=self.config.alpha),
        }

    def _moved(self, model: nn.Module, batch: Batch) -> Tensor:
        if self.config.retain_term == "kl":
            said = batch.predict(model)
            return kl_divergence(self.recall(model, batch).logits_SV, said.logits_SV).sum()
        hidden_SD, _ = activations_of(model, self.place, batch)
        return distance(hidden_SD, self.recall_at(model, batch, self.place))


METHOD = RMU
