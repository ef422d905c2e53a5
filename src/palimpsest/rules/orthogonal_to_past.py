"""Orthogonal to past: a step that forgets keeps out of the directions in which earlier requests pushed the weights.

Source: ONPO, ICLR 2026 workshop (OpenReview lb6Ce20kl5), known to us from its abstract and our notes; the projection is
that of orthogonal gradient descent, Farajtabar et al. 2020, arXiv:1910.07104.

    g ← g − Q Qᵀ g        Q an orthonormal basis of the gradients of earlier requests (``companions/gradient_log.py``)

over all weights that move together. Q is made once, at the start of the run, of what lies beside the version that the
run starts from (``--record past_gradients`` keeps it there); it is as large as the weights, once for each gradient.
A step without terms that forget, as one of repair, is left as it is.

What is orthogonal is the gradient: AdamW scales its entries, and the step itself has a part along Q again. With SGD it
has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from palimpsest import companions
from palimpsest.companions.gradient_log import PastGradients
from palimpsest.companions.marks import own_key
from palimpsest.contract import ExampleSet, Phase
from palimpsest.errors import PlanError
from palimpsest.method_card import Config
from palimpsest.models.scope import trainable
from palimpsest.rules.asked import Gradients, forgets_in
from palimpsest.rules.rule import Rule

_SAME = 1e-5  # of the length of a gradient: less is left of it where others say the same


def dot(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Tensor:
    """Over the tensors that both have, in double precision.

    >>> float(dot({"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([3.0, 4.0]), "b": torch.ones(1)}))
    11.0
    """
    return torch.stack([(t.double() * other[name].double()).sum() for name, t in one.items() if name in other]).sum()


def without_past(gradient: Mapping[str, Tensor], basis: Sequence[Mapping[str, Tensor]]) -> Gradients:
    """G − Q Qᵀ g.

    >>> without_past({"a": torch.tensor([3.0, 4.0])}, [{"a": torch.tensor([1.0, 0.0])}])["a"].tolist()
    [0.0, 4.0]
    """
    left = dict(gradient)
    for direction in basis:
        along = dot(direction, left)
        left |= {name: g - (along * direction[name]).to(g.dtype) for name, g in left.items() if name in direction}
    return left


def basis_of(gradients: Iterable[Mapping[str, Tensor]]) -> list[Gradients]:
    """Q: an orthonormal basis of what some gradients span, by Gram and Schmidt, each twice; of the same ones one.

    A gradient is 0 in the tensors that it does not have and another one has.
    """
    given = list(gradients)
    nothing = {name: torch.zeros_like(g) for gradient in given for name, g in gradient.items()}
    basis: list[Gradients] = []
    for gradient in given:
        whole = float(dot(gradient, gradient)) ** 0.5
        left = without_past(without_past({**nothing, **gradient}, basis), basis)
        length = float(dot(left, left)) ** 0.5
        if length > _SAME * whole:
            basis.append({name: g / length for name, g in left.items()})
    return basis


class OrthogonalToPast(Rule):
    """A projection of every gradient that forgets."""

    Config = Config
    use_when = "requests follow each other, and none shall bring back what went before"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Make Q of what lies beside the version that the run starts from."""
        free = trainable(model)
        past = ({n: g.to(free[n].device) for n, g in one.items() if _fits(n, g, free)} for one in self._past())
        self._basis = basis_of(one for one in past if one)
        self._share = 0.0
        if not self._basis:
            where = self.setting.start or "the model"
            raise PlanError(
                f"rule {self.kind}: no gradients of earlier requests lie beside {where} for the weights that move; "
                "unlearn the earlier ones with --record past_gradients, or leave the rule out"
            )

    def _past(self) -> Iterable[Mapping[str, Tensor]]:
        key, start = own_key(), self.setting.start
        if key is None or start is None or PastGradients.kind not in companions.kinds_in(start):
            return ()
        place = companions.companion_place(PastGradients.kind, start)
        return PastGradients.open(place, key).gradients()

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Project what was accumulated."""
        if not forgets_in(phase):
            return
        there = {name: p.grad for name, p in trainable(model).items() if p.grad is not None}
        left = without_past(there, self._basis)
        whole = float(dot(there, there)) if there else 0.0
        self._share = 1 - float(dot(left, left)) / whole if whole else 0.0
        for name, gradient in left.items():
            there[name].copy_(gradient)

    def diagnostics(self, learning_rate: float) -> dict[str, float]:
        """Share of the squared length of the last gradient that lay along the past ones."""
        return {"past_share": self._share}


def _fits(name: str, gradient: Tensor, free: Mapping[str, nn.Parameter]) -> bool:
    return name in free and free[name].shape == gradient.shape


RULE = OrthogonalToPast
