"""Which client's change points against all others, beside a count over pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from palimpsest.federated.arithmetic import mutual_cosines, turned


def changes(**rows: tuple[float, ...]) -> dict[str, dict[str, torch.Tensor]]:
    """Two tensors of one client's change each: the first number, and the rest."""
    return {name: {"w": torch.tensor(own[:1]), "v": torch.tensor([own[1:]])} for name, own in rows.items()}


def at(degrees: float, length: float = 1.0) -> tuple[float, float]:
    """A vector of the plane."""
    return length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees))


def test_cosines_are_those_of_whole_changes() -> None:
    draw = torch.Generator().manual_seed(0)
    told = {name: {"w": torch.randn(3, 4, generator=draw), "v": torch.randn(5, generator=draw)} for name in "abcd"}
    whole = [torch.cat([tensor.flatten() for tensor in one.values()]).double() for one in told.values()]
    wanted = torch.stack([torch.stack([cosine_similarity(one, other, dim=0) for other in whole]) for one in whole])
    assert torch.allclose(mutual_cosines(told), wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"a": at(0), "b": at(60), "c": at(210)}, ("c",)),  # both others are 150 degrees away
        ({"a": at(0), "b": at(60), "c": at(210, 0.001)}, ("c",)),  # length says nothing
        ({"a": at(0), "b": at(60), "c": at(30)}, ()),
        ({"a": at(0), "b": at(120), "c": at(240)}, ()),  # where a federation has come to rest: nobody agrees
        ({"a": at(0), "b": at(60), "c": at(140)}, ()),  # it is against one, and agrees with the other
        ({"a": at(0), "b": at(180)}, ()),  # of two nobody can tell
        ({"a": at(0), "b": at(20), "c": at(180), "d": at(200)}, ()),  # nor of two and two
        ({"a": at(0), "b": at(20), "c": at(40), "d": at(200)}, ("d",)),
        ({"a": at(0), "b": at(60), "c": (0.0, 0.0)}, ()),  # one that did not move
        ({"a": at(0), "b": at(86), "c": at(223)}, ()),  # the others hardly agree: cosine 0.07
        ({"a": at(0), "b": at(60), "c": at(265)}, ()),  # hardly against the first: cosine -0.09
        ({"a": at(0), "b": at(60), "c": at(263)}, ("c",)),  # cosine -0.12
    ],
)  # fmt: skip
def test_who_points_against_all_others(told: dict[str, tuple[float, float]], found: tuple[str, ...]) -> None:
    assert turned(changes(**told)) == found
