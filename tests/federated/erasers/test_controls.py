"""The controls beside the erasers, and the registry that they stand in."""

from __future__ import annotations

import pytest
import torch
from tests.federated.in_memory import answered, averaged_history, nobody, replies, w

from palimpsest.errors import PlanError
from palimpsest.federated import erasers
from palimpsest.federated.arithmetic import difference, l2_norm
from palimpsest.federated.erasers.client_noise import ERASER as NOISE
from palimpsest.federated.erasers.history import contribution
from palimpsest.federated.erasers.replay_history import ERASER as REPLAY

HISTORY = averaged_history(
    w(0, 0), replies({"u": 2, "a": 1, "b": 1}, u=w(8, 0), a=w(2, 2), b=w(4, 0)), replies(u=w(1, 1), b=w(0, 5)), epochs=2
)


def test_a_replay_adds_up_what_the_others_said_then() -> None:
    assert answered(REPLAY().erase(HISTORY, "u"), nobody)[0]["w"].tolist() == [3 + 0, 1 + 5]


def test_a_replay_of_all_is_what_there_was() -> None:
    assert answered(REPLAY().erase(HISTORY, "nobody"), nobody)[0]["w"].tolist() == HISTORY.final["w"].tolist()


def test_extra_rounds_go_on_from_the_end_without_the_client() -> None:
    final, asked = answered(
        erasers.load("extra_rounds", {"rounds": 2}).erase(HISTORY, "u"), lambda name, errand: w(1, 0)
    )
    assert final["w"].tolist() == [HISTORY.final["w"][0] + 2, HISTORY.final["w"][1]]
    assert [(errand.who, errand.epochs) for errand in asked] == [(("a", "b"), 2)] * 2


def test_noise_is_as_long_as_what_the_client_brought_in() -> None:
    after, _ = answered(NOISE().erase(HISTORY, "u"), nobody)
    assert l2_norm(difference(after, HISTORY.final)) == pytest.approx(l2_norm(contribution(HISTORY, "u")), rel=1e-6)
    other, _ = answered(erasers.load("client_noise", {"seed": 1}).erase(HISTORY, "u"), nobody)
    assert not torch.equal(after["w"], other["w"])


def test_every_eraser_says_what_it_promises() -> None:
    assert {"fed_eraser", "projected_ascent", "subtract_distil", "fed_recovery"} <= set(erasers.names())
    for name in erasers.names():
        eraser = erasers.load(name)
        assert (eraser.name, bool(eraser.source), bool(eraser.use_when)) == (name, True, True)
        assert eraser.guarantee.startswith(("None", "Exact", "Indistinguishable"))
        assert eraser.exact == eraser.guarantee.startswith("Exact")


def test_an_unknown_eraser_is_refused() -> None:
    with pytest.raises(PlanError, match="did you mean 'fed_eraser'"):
        erasers.load("federaser")
