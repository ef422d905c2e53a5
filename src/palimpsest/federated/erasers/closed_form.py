"""Closed form: a ridge regression on features that stay, from sums of each client; who goes is left out of the sum.

Source: RanPAC, McDonnell et al. 2023, arXiv:2307.02251, over clients as in arXiv:2406.09831; known from notes on both.

    G = Σ_k G_k,   Q = Σ_k Q_k,   G_k = Σ h hᵀ,   Q_k = Σ h onehot(y)ᵀ     over client k's rows,   h = features
    V = (G + lambda I)⁻¹ Q

G_k and Q_k are whole numbers (``models/class_sums.py``: features in steps of 2⁻¹⁶), so that their sum has no order and
leaving one out is the same bits as never having had it. lambda is chosen by the error on a held-out fold, which is a
function of the same sums. Each client sends one answer, once: {"count_FC", "sum_FCM", "square_FMM"}, two folds each.

In a federation of models f is what enters the head, and a constant 1; V becomes the model's own linear head, its last
row the bias. The rest of the model stays as it was when the federation began.

Shape legend: F folds (fitted, held out), C classes, M features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from palimpsest.companions.round_record import Replies, Weights
from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.federated.erasers.history import kept_of
from palimpsest.federated.procedure import Eraser, Errand, Procedure, Rounds
from palimpsest.methods.ranpac import regression
from palimpsest.models.class_sums import ClassSums
from palimpsest.models.parts.class_head import head_place

SURENESS = 16.0
"""Factor of the regression's answers, as in RanPAC here."""
NO_ROW_BIAS = -1e4
"""Bias of a class that no row is of."""
STATISTICS = ("count_FC", "sum_FCM", "square_FMM")
RIDGE_HEAD = ("solution_CM", "present_C")


def as_statistics(sums: ClassSums) -> dict[str, Tensor]:
    """What a client sends of its sums, whose second moments are pooled over the classes."""
    return dict(zip(STATISTICS, (sums.count_FC, sums.sum_FCD, sums.square_FGDD[:, 0]), strict=True))


def summed_statistics(answers: Replies) -> dict[str, Tensor]:
    """Σ over clients, of whole numbers; classes that one has not are zero of it.

    Raises:
        DataError: there is nobody, or an answer is not of whole numbers.
    """
    if not answers:
        raise DataError("no client is left whose statistics make a head; accepted: a federation that keeps one")
    for client, told in answers.items():
        if set(told.delta) != set(STATISTICS) or any(at.dtype != torch.int64 for at in told.delta.values()):
            raise DataError(f"client {client!r} sent no statistics; accepted: {', '.join(STATISTICS)} in whole numbers")
    classes = max(told.delta["count_FC"].shape[1] for told in answers.values())
    wide = [_widened(told.delta, classes) for told in answers.values()]
    return {name: torch.stack([one[name] for one in wide]).sum(0) for name in STATISTICS}


def _widened(statistics: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    return as_statistics(as_sums(statistics).widened(classes))


def as_sums(statistics: Mapping[str, Tensor]) -> ClassSums:
    """Inverse of ``as_statistics``."""
    count_FC, sum_FCM, square_FMM = (statistics[name] for name in STATISTICS)
    return ClassSums(count_FC, sum_FCM, square_FMM[:, None], "pooled")


def ridge_head_of(answers: Replies) -> dict[str, Tensor]:
    """The ridge head of some clients: "solution_CM" in fp32, and "present_C", classes that a row is of."""
    sums = as_sums(summed_statistics(answers))
    return {"solution_CM": regression(sums)[0].T.float().contiguous(), "present_C": sums.present_C}


def with_constant(features_NM: Float[Tensor, "N M"]) -> Float[Tensor, "N M1"]:
    """The features and a 1, which stands for the bias.

    >>> with_constant(torch.tensor([[0.5, 2.0]])).tolist()
    [[0.5, 2.0, 1.0]]
    """
    return torch.cat([features_NM, torch.ones(len(features_NM), 1)], 1)


class ClosedForm(Eraser):
    """Sums of each client, and the regression that they give."""

    name = "closed_form"
    source = "McDonnell et al. 2023, RanPAC, arXiv:2307.02251"
    use_when = "a classifier whose backbone may stay as it is: erasure is exact and takes no time"
    exact = True
    guarantee = "Exact: the bits of a federation that the client never was in"
    learns_apart = True

    def learn(self, start: Weights, names: tuple[str, ...], epochs: float, rounds: int | None) -> Procedure:
        """One round of one pass; epochs and rounds change nothing."""
        answers = yield Errand(start, names, 1.0, "statistics", loss=False)
        return ridge_head_of(answers)

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Add up the others.

        Raises:
            PlanError: the federation learned in another way.
        """
        if len(history) != 1 or set(history[0].combined) != set(RIDGE_HEAD):
            raise PlanError(
                f"{self.name} cannot erase from a federation that learned by steps; accepted: one of the clients' "
                f"statistics (run --for {self.name})"
            )
        kept = kept_of(history[0], gone)
        return ridge_head_of((yield Errand(history.start, tuple(kept), 1.0, "statistics", known=kept)))

    def check(self, bench: Any) -> None:
        """It needs a head to write into.

        Raises:
            ModelError: the model has no linear head with classes, or one without a bias.
        """
        if head_place(bench.model)[1].bias is None:
            raise ModelError("a head without a bias cannot hold the regression; accepted: a linear head with one")

    def install(self, bench: Any, final: Weights) -> None:
        """Write V into the model's head: the factor decides how sure it is, not what it says."""
        head = head_place(bench.model)[1]
        solution_CM = final["solution_CM"].to(head.weight.device) * SURENESS
        with torch.no_grad():
            head.weight.zero_()
            head.bias.fill_(NO_ROW_BIAS)
            head.weight[: len(solution_CM)] = solution_CM[:, :-1]
            present_C = final["present_C"].to(head.weight.device)
            head.bias[: len(solution_CM)] = torch.where(present_C, solution_CM[:, -1], NO_ROW_BIAS)


ERASER = ClosedForm
