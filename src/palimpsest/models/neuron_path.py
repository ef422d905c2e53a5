"""How many neurons of a ranking must go until a class is gone, seen from what enters the head alone. Pure functions.

Source: step 3 and 4 of LRA-NPP 2024, with a rule in the place of its number k_p for each network: go down the ranking,
and stop as soon as, of the examples looked at,

    none is called the class,  and  mean_x m(x) ≥ 2 · std_x m(x),  m(x) = max_{d≠c} z_d(x) − z_c(x):

so that others like these will not be, either. Where the ranking ends before, as few as none is called with. A neuron
whose loss costs more of what must stay than is allowed is passed over.

Shape legend: N examples, K neurons, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from palimpsest.models.relevance import ranked_by_count, top_of_each

_SPREADS = 2.0
"""Standard deviations by which a class that is gone lies behind on average; how it was chosen: docs/lra_npp.md."""


@dataclass(frozen=True)
class LinearHead:
    """A last linear layer, as numbers.

    Attributes:
        weight_CK: its weight.
        bias_C: its bias; zeros where it has none.
    """

    weight_CK: Float[Tensor, "C K"]
    bias_C: Float[Tensor, "C"]

    def __call__(self, a_NK: Float[Tensor, "N K"]) -> Float[Tensor, "N C"]:
        """Logits of what enters it."""
        return a_NK @ self.weight_CK.T + self.bias_C


@dataclass(frozen=True)
class ClassStanding:
    """How one class stands among the others on some examples while neurons are taken out.

    Attributes:
        a_NK: what enters the head.
        target_N: what is right.
        head: as it was.
        label: the class.
        own_N: its logit.
        rest_NC: logits of all classes where the neurons leave those, too; None where the class alone loses them.
        best_N: the largest logit of another class.
        led_by_right_N: is the largest of the others that of the target?
    """

    a_NK: Float[Tensor, "N K"]
    target_N: Int[Tensor, "N"]
    head: LinearHead
    label: int
    own_N: Float[Tensor, "N"]
    rest_NC: Float[Tensor, "N C"] | None
    best_N: Float[Tensor, "N"]
    led_by_right_N: Bool[Tensor, "N"]

    @classmethod
    def of(
        cls,
        a_NK: Float[Tensor, "N K"],
        target_N: Int[Tensor, "N"],
        head: LinearHead,
        label: int,
        *,
        everywhere: bool,
    ) -> ClassStanding:
        """Before any neuron is out; ``everywhere`` takes them from all classes."""
        z_NC = head(a_NK)
        return cls(a_NK, target_N, head, label, *_facts(z_NC, target_N, label, keeps=everywhere))

    def without(self, neuron: int) -> ClassStanding:
        """The same with one neuron more out."""
        if self.rest_NC is None:
            lost_N = self.a_NK[:, neuron] * self.head.weight_CK[self.label, neuron]
            return replace(self, own_N=self.own_N - lost_N)
        z_NC = self.rest_NC - self.a_NK[:, neuron, None] * self.head.weight_CK[:, neuron]
        return ClassStanding(
            self.a_NK, self.target_N, self.head, self.label, *_facts(z_NC, self.target_N, self.label, keeps=True)
        )

    @property
    def called(self) -> int:
        """Examples that are called the class."""
        return int((self.own_N >= self.best_N).sum())

    @property
    def is_gone(self) -> bool:
        """No example is called the class, and it lies behind by more than the spread explains."""
        behind_N = self.best_N - self.own_N
        return not self.called and float(behind_N.mean()) >= _SPREADS * float(behind_N.std(correction=0))

    @property
    def right(self) -> int:
        """Examples that are called what they are, of classes that stay."""
        return int((self.led_by_right_N & (self.own_N < self.best_N)).sum())


def _facts(
    z_NC: Float[Tensor, "N C"], target_N: Int[Tensor, "N"], label: int, *, keeps: bool
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """``own_N`` to ``led_by_right_N`` of a ``ClassStanding``."""
    others_NC = z_NC.clone()
    others_NC[:, label] = -torch.inf
    best = others_NC.max(1)
    return z_NC[:, label], z_NC if keeps else None, best.values, best.indices == target_N


def ranked_for(relevance_NK: Float[Tensor, "N K"], top: int) -> list[int]:
    """Neurons by the number of examples among whose ``top`` they are, then, of none, those of positive mean relevance.

    >>> ranked_for(torch.tensor([[3.0, 2.0, 1.0, -1.0], [3.0, 0.5, 1.0, -1.0]]), 1)
    [0, 1, 2]
    """
    counted = ranked_by_count(top_of_each(relevance_NK, top), relevance_NK)
    mean_K = relevance_NK.double().mean(0)
    behind = [int(k) for k in mean_K.argsort(descending=True, stable=True) if mean_K[k] > 0]
    return counted + [k for k in behind if k not in set(counted)]


def until_gone(
    ranking: Sequence[int], looked: ClassStanding, kept: ClassStanding | None = None, *, cost: float = 0.0
) -> tuple[list[int], ClassStanding]:
    """As few neurons of a ranking as the class needs to be gone, none that costs the others too much.

    Args:
        ranking: the first to go first.
        looked: the examples of the class.
        kept: examples of what must stay; None = they are not looked at.
        cost: share of ``kept`` that may be called something else in the end.

    Returns:
        The neurons that go, and how the class stands without them.

    >>> head = LinearHead(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.zeros(2))
    >>> a = torch.tensor([[2.0, 1.0]])
    >>> until_gone([0, 1], ClassStanding.of(a, torch.tensor([0]), head, 0, everywhere=False))[0]
    [0, 1]
    """
    gone: list[int] = []
    uncalled: tuple[list[int], ClassStanding] | None = None
    least = 0.0 if kept is None else kept.right - cost * len(kept.target_N)
    for neuron in ranking:
        if looked.is_gone:
            break
        if kept is not None:
            then = kept.without(neuron)
            if then.right < min(least, kept.right):
                continue
            kept = then
        looked = looked.without(neuron)
        gone.append(neuron)
        if uncalled is None and not looked.called:
            uncalled = [*gone], looked
    return (gone, looked) if looked.is_gone or uncalled is None else uncalled


def ranked_rows(
    label: int, path: Sequence[int], edges: str, relevance_NK: Float[Tensor, "N K"], *, top: int
) -> list[dict[str, Any]]:
    """The neurons of a path for a reader: rank, neuron, among the top of how many samples, mean relevance.

    >>> ranked_rows(3, [1], "head", torch.tensor([[1.0, 3.0], [1.0, 0.5]]), top=1)
    [{'class': 3, 'rank': 1, 'neuron': 1, 'edges': 'head', 'samples': 1, 'of': 2, 'relevance': 1.75}]
    """
    count_K = top_of_each(relevance_NK, top).sum(0)
    mean_K = relevance_NK.double().mean(0)
    found: list[dict[str, Any]] = []
    for rank, n in enumerate(path, 1):
        seen = {"samples": int(count_K[n]), "of": len(relevance_NK), "relevance": float(mean_K[n])}
        found.append({"class": label, "rank": rank, "neuron": n, "edges": edges, **seen})
    return found
