"""Amnesiac unlearning, whole or layer-wise partial: take back what the steps that met a forgotten row did.

Source: layer-wise partial machine unlearning, Alg. 1 (journal version 2025); of all updates, Graves, Nagisetty, Ganesh
2021, arXiv:2010.10981, Section 4.

    w' = w_T − Σ_{t: B_t meets D_f} v_t,   v_t^l = Prune_{p_l}(u_t^l)   recorded while it learned (``--record deltas``)

then, where it is asked for, ``repair_epochs`` passes over what stays, with

    L = − mean log p(retain tokens)

With keep = 1 this is the amnesiac unlearning of Graves et al., who repair; the partial one does without. The pruning is
of learn time (``rules/deltas.py``): nothing is chosen here.

Departs from the paper: every step is recorded, not those of owners who may ask; how the entries are chosen (the
largest) is a reconstruction. What a forgotten row did to later steps of others, and to running statistics of batch
normalisation, stays, as in the paper.
Official code: none of the partial method; of Graves et al. lmgraves/AmnesiacML, which has no licence: read, not copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.delta_log import DeltaLog
from palimpsest.contract import Config, ExampleSet, Method, Phase, Stage, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.errors import ModelError, PlanError
from palimpsest.terms import likelihood


class AmnesiacConfig(Config):
    """Options of amnesiac unlearning; what is kept of a step is chosen when it is recorded."""

    repair_epochs: float = Field(default=0.0, ge=0)
    """Passes over the retain set after the subtraction; 0 takes no step."""


def taken_back(weight: Float[Tensor, "..."], changes: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """W − Σ v_t, in fp32 and then in the dtype of the weight.

    >>> taken_back(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0])).tolist()
    [0.5, 2.0]
    """
    return (weight.float() - changes.to(weight.device)).to(weight.dtype)


class Amnesiac(Method):
    """Subtract the records of the steps that met the forget set."""

    Config = AmnesiacConfig
    use_when = (
        "it learned with --record deltas, in steps apart from the rest. "
        "Not where most steps met what must go: what they taught of others goes as well."
    )
    approach = "history"
    kinds = ("unlearn",)
    needs = ("forget",)
    uses = ("retain",)
    defaults = {"batch_size": 16}
    reads = ("deltas",)
    keeps = ("deltas",)
    edits = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """The repair has something to go over.

        Raises:
            PlanError: it has not.
        """
        if self.config.repair_epochs and "retain" not in sets:
            raise PlanError(
                f"amnesiac.repair_epochs = {self.config.repair_epochs:g} needs the retain set; give it with --retain "
                "FILE, or leave the repair out"
            )
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Take back what was recorded of the tensors that may move; their names."""
        log = self.companions["deltas"]
        if not isinstance(log, DeltaLog):
            raise TypeError("the companion of the kind deltas is no DeltaLog")
        totals, there = log.total_of(sets["forget"].ids), dict(model.named_parameters())
        if strangers := sorted(totals.keys() - there.keys()):
            raise ModelError(
                f"the delta log holds {len(strangers)} tensors that the model does not have (first: {strangers[0]}); "
                "give the folder of the run that recorded it, with scope.kind = all"
            )
        moved = {name: changes for name, changes in totals.items() if there[name].requires_grad}
        with torch.no_grad():
            for name, changes in moved.items():
                there[name].copy_(taken_back(there[name], changes))
        return sorted(moved)

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """None, or the repair."""
        if not self.config.repair_epochs:
            return ()
        phases = (Phase("repair", ("retain",)),)
        return (Stage("repair", anchor="retain", epochs=self.config.repair_epochs, phases=phases),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Of the repair: token mean of −log p of what stays."""
        return likelihood(model, batches, {"retain": 1.0})


METHOD = Amnesiac
