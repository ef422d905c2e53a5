"""Additive statistics of features by class, exact: what is taken out was never added, to the bit.

A feature is rounded to a multiple of 2⁻¹⁶ (so it is off by at most 2⁻¹⁷ = 7.7e-6) and counted as a whole number.
Sums, and sums of products, of whole numbers do not depend on the order, and a difference undoes a sum.

    n_c = Σ 1,   s_c = Σ q,   S_c = Σ q qᵀ   over the rows of class c,   q = round(2¹⁶ f)
    mu_c = 2⁻¹⁶ s_c / n_c,   cov_c = 2⁻³² (S_c − s_c s_cᵀ / n_c) / (n_c − 1)

A fold is a part of the rows that is kept apart (e.g. what a penalty is chosen by).

Shape legend: N rows, F folds, C classes, D features, G groups of second moments: C, 1 ("pooled") or 0 ("none").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from palimpsest.errors import DataError

GRID_STEPS = 2**16
"""Steps of the grid in a unit."""
LARGEST = 2.0**10
"""Magnitude that a feature may have: products of larger ones are not exact."""
_EXACT = 2**52  # whole numbers that a double holds, with room for a sum's last step
_FULL = 2.0**62  # of 64 bits
KeptMoments = Literal["none", "class", "pooled"]


def on_grid(features_ND: Float[Tensor, "N D"]) -> Int[Tensor, "N D"]:
    """Whole numbers of steps, the nearest.

    Raises:
        DataError: a feature is not finite, or too large.

    >>> on_grid(torch.tensor([[1.0, -0.5, 1e-6]])).tolist()
    [[65536, -32768, 0]]
    """
    if not bool((features_ND.abs() <= LARGEST).all()):
        raise DataError(
            f"what enters the head is up to {features_ND.abs().max():g} large; accepted: finite numbers up to "
            f"{LARGEST:g}, of which sums are exact"
        )
    return (features_ND.double() * GRID_STEPS).round().long()


def products(steps_ND: Int[Tensor, "N D"]) -> Int[Tensor, "D D"]:
    """Σ q qᵀ, exact: in doubles over so many rows at a time as they hold without rounding, then in 64 bits.

    >>> products(torch.tensor([[2**26, 1], [0, 3]])).tolist()
    [[4503599627370496, 67108864], [67108864, 10]]
    """
    width = steps_ND.shape[1]
    total_DD = torch.zeros(width, width, dtype=torch.int64)
    largest = int(steps_ND.abs().max()) if len(steps_ND) else 0
    rows = max(1, _EXACT // max(1, largest**2))
    for start in range(0, len(steps_ND), rows):
        wide_ND = steps_ND[start : start + rows].double()
        total_DD += (wide_ND.T @ wide_ND).long()
    return total_DD


@dataclass(frozen=True)
class ClassSums:
    """Counts, sums and second moments, as whole numbers.

    Attributes:
        count_FC: rows.
        sum_FCD: of their features, in steps.
        square_FGDD: of products of two, in squared steps.
        moments: of what the second ones are kept: of each class, of all rows, or not at all.
    """

    count_FC: Int[Tensor, "F C"]
    sum_FCD: Int[Tensor, "F C D"]
    square_FGDD: Int[Tensor, "F G D D"]
    moments: KeptMoments = "none"

    @classmethod
    def empty(cls, width: int, classes: int, moments: KeptMoments = "none", folds: int = 1) -> Self:
        """Of no row."""
        groups = {"none": 0, "class": classes, "pooled": 1}[moments]
        whole = {"dtype": torch.int64}
        return cls(
            torch.zeros(folds, classes, **whole),  # type: ignore[call-overload]
            torch.zeros(folds, classes, width, **whole),  # type: ignore[call-overload]
            torch.zeros(folds, groups, width, width, **whole),  # type: ignore[call-overload]
            moments,
        )

    @property
    def classes(self) -> int:
        """C."""
        return self.count_FC.shape[1]

    @property
    def width(self) -> int:
        """D."""
        return self.sum_FCD.shape[2]

    @property
    def present_C(self) -> Bool[Tensor, "C"]:
        """Classes that a row is of."""
        return self.count_FC.sum(0) > 0

    @property
    def mean_CD(self) -> Float[Tensor, "C D"]:
        """mu_c in double precision; 0 of a class without rows."""
        return self.sum_FCD.sum(0).double() / (GRID_STEPS * self.count_FC.sum(0).clamp_min(1))[:, None]

    @property
    def covariance_CDD(self) -> Float[Tensor, "C D D"]:
        """cov_c in double precision; 0 of a class of fewer than two rows. For second moments by class."""
        count_C11 = self.count_FC.sum(0)[:, None, None]
        mean_CD = self.mean_CD
        about_CDD = self.moment_GDD / count_C11.clamp_min(1) - mean_CD[:, :, None] * mean_CD[:, None, :]
        return torch.where(count_C11 > 1, about_CDD * count_C11 / (count_C11 - 1).clamp_min(1), 0.0)

    @property
    def moment_GDD(self) -> Float[Tensor, "G D D"]:
        """Σ f fᵀ over all folds, in double precision."""
        return self.square_FGDD.sum(0).double() / GRID_STEPS**2

    def widened(self, classes: int) -> Self:
        """The same with at least so many classes; the further ones have no row."""
        more = max(0, classes - self.classes)
        of_class = self.moments == "class"
        return replace(
            self,
            count_FC=_with_more(self.count_FC, more),
            sum_FCD=_with_more(self.sum_FCD, more),
            square_FGDD=_with_more(self.square_FGDD, more) if of_class else self.square_FGDD.clone(),
        )

    def plus(
        self,
        features_ND: Float[Tensor, "N D"],
        label_N: Int[Tensor, "N"],
        fold_N: Int[Tensor, "N"] | None = None,
        *,
        sign: int = 1,
    ) -> Self:
        """With these rows, or without them where the sign is −1; they were added before then.

        Raises:
            DataError: a sum would not fit into 64 bits.
        """
        folds, steps_ND = torch.zeros_like(label_N) if fold_N is None else fold_N, on_grid(features_ND.cpu())
        made = self.widened(int(label_N.max()) + 1 if len(label_N) else 0)
        for fold, label in sorted(set(zip(folds.tolist(), label_N.tolist(), strict=True))):
            rows_ND = steps_ND[(folds == fold) & (label_N == label)]
            made.count_FC[fold, label] += sign * len(rows_ND)
            made.sum_FCD[fold, label] += sign * rows_ND.sum(0)
            if self.moments != "none":
                made.square_FGDD[fold, label if self.moments == "class" else 0] += sign * _held(made, rows_ND)
        return made

    def without_classes(self, gone_C: Bool[Tensor, "C"]) -> Self:
        """Without all rows of some classes; not where second moments are pooled."""
        keep_C = (~gone_C).long()
        square = self.square_FGDD
        return replace(
            self,
            count_FC=self.count_FC * keep_C,
            sum_FCD=self.sum_FCD * keep_C[:, None],
            square_FGDD=square * keep_C[:, None, None] if self.moments == "class" else square,
        )


def _with_more(tensor: Tensor, more: int) -> Tensor:
    """So many zeros behind the classes."""
    return torch.cat([tensor, tensor.new_zeros(tensor.shape[0], more, *tensor.shape[2:])], 1)


def _held(sums: ClassSums, rows_ND: Tensor) -> Tensor:
    """Products of these rows, once it is sure that a sum of them fits."""
    found_DD = products(rows_ND)
    there = sums.square_FGDD.diagonal(dim1=2, dim2=3).amax() if sums.square_FGDD.numel() else torch.zeros(())
    if float(there) + float(found_DD.diagonal().max()) > _FULL:
        raise DataError("sums of so many large features do not fit into 64 bits; accepted: fewer rows in one head")
    return found_DD
