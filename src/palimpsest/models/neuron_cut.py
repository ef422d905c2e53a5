"""Which edges of a class are cut, once its neurons are ranked. Pure functions; the rule: ``until_gone``.

Source: steps 3 and 4 of LRA-NPP 2024; that a class may need edges to all classes is ours (cut = auto).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool
from torch import Tensor

from palimpsest.models.class_samples import Entered
from palimpsest.models.neuron_path import ClassStanding, LinearHead, until_gone


class Cut(NamedTuple):
    """What goes of a class.

    Attributes:
        neurons: the first of the ranking first.
        edges: which of their edges: "head", "columns" or "path".
    """

    neurons: list[int]
    edges: str


def least_cut(
    ranking: list[int], edges: Sequence[str], seen: tuple[Entered, Entered | None], head: LinearHead, cost: float
) -> Cut:
    """The first edges that are enough; where none are, those without which the fewest samples are called so."""
    label, tried = int(seen[0].target_S[0]), []
    for which in edges:
        stand = partial(ClassStanding.of, head=head, label=label, everywhere=which != "head")
        looked, kept = (None if one is None else stand(one.a_SK, one.target_S) for one in seen)
        neurons, stands = until_gone(ranking, cast("ClassStanding", looked), kept, cost=cost)
        if not stands.called:  # that it lies far behind may be out of reach, and is no reason to cut more edges
            return Cut(neurons, which)
        tried.append((stands.called, Cut(neurons, which)))
    return min(tried, key=lambda one: one[0])[1]


def cut_entries(cuts: Mapping[int, Cut], shape: Sequence[int], *, of_head: bool) -> Bool[Tensor, "..."]:
    """Which entries of the head's weight, or of the layer that makes the neurons, the cuts of all classes meet.

    >>> cut_entries({1: Cut([0], "head")}, (2, 2), of_head=True).tolist()
    [[False, False], [True, False]]
    """
    where = torch.zeros(tuple(shape), dtype=torch.bool)
    for label, (neurons, edges) in cuts.items():
        if not of_head:
            where[neurons] = True
        else:
            where[slice(None) if edges == "columns" else label, neurons] = True
    return where
