"""RanPAC: ridge regression on random features of a backbone that stays as it is; a deletion is exact.

Source: McDonnell, Gong, Parvaneh, Abbasnejad & van den Hengel 2023, "RanPAC: Random Projections and Pre-trained Models
for Continual Learning", NeurIPS, arXiv:2307.02251; known from notes on the paper and on PILOT's code.

    y(x) = scale · Vᵀ h,   h = relu(f(x) W),   V = (G + lambda I)⁻¹ Q,   G = Σ h hᵀ,   Q = Σ h onehot(y)ᵀ

f is what enters the model's head, W random and kept in the head. G and Q are sums that rows are added to and taken off
(``companions/class_statistics.py``). lambda is the one of 10⁻⁸ … 10⁸ under which V of four fifths of the rows predicts
the last fifth best; which rows these are is a draw from their ids, and their error a function of their own G and Q. So
all of the head is a function of the sums, and a deletion has the bits of a head that never saw the rows.

Departs from the paper: lambda is chosen anew from all rows at every run, where the paper takes the last 20 % of the
rows of a task; fewer random features by default (16 for each of the backbone's, at most 2048; 10000 in the paper); no
first adaptation of the backbone; it deletes.
Official code: github.com/RanPAC/RanPAC; not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.class_counting import Counting, check_counting, keep_record, record_after
from palimpsest.contract import Config, ExampleSet, Method, Part
from palimpsest.models.class_sums import GRID_STEPS, ClassSums
from palimpsest.models.parts import named_buffers_of
from palimpsest.models.parts.class_head import config_of_new_head, fitted_head, head_place, new_head
from palimpsest.models.parts.ridge_head import PENALTIES, RidgeHead, held_out_errors, solved

_MOST = 2048
_FOLDS = 2


class RanPACConfig(Config):
    """Options of RanPAC."""

    features: int = Field(default=0, ge=0)
    """M, random features; 0 = 16 for each number that enters the head, at most 2048. 10000 in the paper."""
    seed: int = 0
    """Of the random features; a version goes on with those that it has."""
    scale: float = Field(default=16.0, gt=0)
    """Factor of the regression's answers; it decides how sure the head is, not what it says."""
    rows_at_once: int = Field(default=1, ge=1)
    """Rows of a forward pass. 1: a deletion gives the bits of never seen; more is faster, and nearly the same."""


def best_penalty(sums: ClassSums) -> float:
    """The penalty of least error on the held-out fold; 1 where that, or the other, has no row."""
    fit, held = sums.count_FC.sum(1).tolist()
    if not fit or not held:
        return 1.0
    moment_FMM, sums_FMC = (sums.square_FGDD[:, 0].double() / GRID_STEPS**2), sums.sum_FCD.double().mT / GRID_STEPS
    errors_L = held_out_errors((moment_FMM[0], sums_FMC[0]), (moment_FMM[1], sums_FMC[1], float(held)), PENALTIES)
    return PENALTIES[int(errors_L.argmin())]


def regression(sums: ClassSums) -> tuple[Float[Tensor, "M C"], float]:
    """V of all rows, in double precision, and its penalty."""
    penalty = best_penalty(sums)
    return solved(sums.moment_GDD[0], sums.sum_FCD.sum(0).double().T / GRID_STEPS, penalty), penalty


class RanPAC(Method):
    """Count random features; the head is the regression on them."""

    Config = RanPACConfig
    use_when = (
        "as simple_cil, and its classes are not told apart well enough. "
        "Not where rows may be purged by their ids alone: then all sums go."
    )
    approach = "continual"
    kinds = ("learn", "unlearn", "update")
    needs = ()
    one_of = (("learn", "forget"),)
    uses = ("replay",)
    modalities = ("labels", "image")
    keeps = ("class_statistics",)
    edits = True
    adds_parts = True
    makes_head = True

    def check(self, model: nn.Module) -> None:
        """The statistics beside the model are of its backbone, and of the same features."""
        sizes = config_of_new_head(model, RidgeHead, self._sized(model))
        check_counting(model, self.companions.get("class_statistics"), self._counting(sizes))

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A ridge head, as wide as the model's own; the one that is there is gone on with."""
        head = new_head(model, RidgeHead, self._sized(model))
        if not head.continues:
            head.draw()
        return [head]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Nothing was chosen yet."""
        self._penalty = 0.0
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Count, and solve for what is counted now."""
        head = fitted_head(model, RidgeHead)
        how = replace(self._counting(head.config), making=head.making)
        record = record_after(model, sets, self.companions.get("class_statistics"), how)
        solution_MC, self._penalty = regression(record.sums)
        head.fit(solution_MC, record.present_C)
        keep_record(self.recording, record)
        return named_buffers_of(model, head)

    def _sized(self, model: nn.Module) -> RanPACConfig:
        """The options with a number of features; where none was said a head that is there keeps its own."""
        options: RanPACConfig = self.config
        if options.features:
            return options
        width = min(_MOST, 16 * head_place(model)[1].in_features)
        return RanPACConfig.model_construct(options.model_fields_set, **{**dict(options), "features": width})

    def _counting(self, sizes: Any) -> Counting:
        space = f"relu of {sizes.features} random features by seed {sizes.seed}"
        return Counting("ranpac", sizes.features, "pooled", _FOLDS, rows=self.config.rows_at_once, space=space)

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """The penalty that was chosen."""
        return {"lambda": self._penalty}


METHOD = RanPAC
