"""Subtraction by hand; the old model teaches on rows of nobody, or it is refused."""

from __future__ import annotations

import pytest
import torch
from tests.federated.in_memory import answered, averaged_history, nobody, replies, w

from palimpsest.errors import PlanError
from palimpsest.federated.erasers.history import contribution
from palimpsest.federated.erasers.replay_history import ERASER as REPLAY
from palimpsest.federated.erasers.subtract_distil import ERASER, PUBLIC

HISTORY = averaged_history(
    w(1, 1), replies({"u": 1, "a": 3}, u=w(4, 0), a=w(0, 4)), replies({"u": 1, "a": 1}, u=w(2, 2), a=w(0, 0)),
    replies(a=w(1, 1)),
)  # fmt: skip


def test_shares_are_those_of_each_round() -> None:
    assert contribution(HISTORY, "u")["w"].tolist() == [4 / 4 + 2 / 2, 0 + 2 / 2]


def test_it_subtracts_and_asks_who_has_public_rows_alone() -> None:
    final, (asked,) = answered(ERASER().erase(HISTORY, "u"), lambda name, errand: w(0.5, 0.5))
    before = [1 + 1 + 1 + 1, 1 + 3 + 1 + 1]
    assert HISTORY.final["w"].tolist() == before
    assert asked.weights["w"].tolist() == [before[0] - 2, before[1] - 1]
    assert final["w"].tolist() == [before[0] - 2 + 0.5, before[1] - 1 + 0.5]
    assert (asked.who, asked.what) == ((PUBLIC,), "distil")
    assert torch.equal(asked.beside["w"], HISTORY.final["w"])  # the teacher is the model of before


def test_without_public_rows_it_is_refused() -> None:
    with pytest.raises(PlanError, match="nobody holds public rows"):
        answered(ERASER().erase(HISTORY, "u"), lambda name, errand: None)


def test_subtraction_is_not_the_replay_the_shares_of_the_others_stay() -> None:
    # the trap: w_T - p_u U_u keeps the others' shares of a mean with the client, a replay gives them its part
    replayed, _ = answered(REPLAY().erase(HISTORY, "u"), nobody)
    assert replayed["w"].tolist() == [1 + 0 + 0 + 1, 1 + 4 + 0 + 1]
    subtracted = (HISTORY.final["w"] - contribution(HISTORY, "u")["w"]).tolist()
    assert subtracted == [1 + 0 + 0 + 1, 1 + 3 + 0 + 1]
