"""FedEraser by hand, at its limits, and its traps: norms of zero, absent clients, intervals, which norms."""

from __future__ import annotations

import math

import pytest
import torch
from tests.federated.in_memory import answered, averaged_history, nobody, replies, w

from palimpsest.federated import erasers
from palimpsest.federated.erasers.fed_eraser import (
    ERASER,
    as_long_as,
    calibrated_step,
    calibration_epochs,
)


def test_one_step_by_hand() -> None:
    # a: 5 long, b: 1 long; directions of today (1, 0) and (0, 1); 1 : 3 rows
    stored = replies({"a": 1, "b": 3}, a=w(3, 4), b=w(0, -1))
    fresh = replies({"a": 1, "b": 3}, a=w(0.1, 0), b=w(0, 7))
    assert calibrated_step(stored, fresh)["w"].tolist() == pytest.approx([5 / 4, 3 / 4])


def test_averaged_norms_by_hand() -> None:
    # mean stored (1.5, 1.5), sqrt(4.5) long; mean direction (1, 0)
    stored, fresh = replies(a=w(3, 0), b=w(0, 3)), replies(a=w(0.5, 1), b=w(0.5, -1))
    assert calibrated_step(stored, fresh, "averaged")["w"].tolist() == pytest.approx([math.sqrt(4.5), 0])
    # each client's own norm: 3 * (0.5, 1)/|.| and 3 * (0.5, -1)/|.|, whose mean is (3 * 0.5 / |.|, 0)
    assert calibrated_step(stored, fresh)["w"].tolist() == pytest.approx([1.5 / math.sqrt(1.25), 0], abs=1e-7)


def test_the_two_norms_agree_where_one_client_is_left() -> None:
    stored, fresh = replies(a=w(3, 4)), replies(a=w(1, 1))
    assert torch.equal(calibrated_step(stored, fresh)["w"], calibrated_step(stored, fresh, "averaged")["w"])


@pytest.mark.parametrize("stored", [w(3, 4), w(0, 0)])
def test_no_direction_is_no_step(stored: dict[str, torch.Tensor]) -> None:
    assert as_long_as(stored["w"], torch.zeros(2)).tolist() == [0, 0]


def test_a_stored_norm_of_zero_is_no_step() -> None:
    assert as_long_as(torch.zeros(2), torch.tensor([1.0, 2.0])).tolist() == [0, 0]


def test_tensors_are_calibrated_by_themselves() -> None:
    a = {"long": torch.tensor([10.0]), "short": torch.tensor([0.1])}
    b = {"long": torch.tensor([-1.0]), "short": torch.tensor([-1.0])}
    step = calibrated_step(replies(a=a), replies(a=b))
    assert [float(step[name]) for name in ("long", "short")] == pytest.approx([-10, -0.1])


HISTORY = averaged_history(
    w(0, 0),
    replies(u=w(9, 9), a=w(2, 0)),
    replies(u=w(9, 9), a=w(0, 3)),
    replies(u=w(9, 9), a=w(4, 0)),
    epochs=4,
)


def test_one_client_left_of_two_goes_its_old_lengths_in_directions_of_today() -> None:
    final, asked = answered(ERASER().erase(HISTORY, "u"), lambda name, errand: w(0, -0.5))
    assert final["w"].tolist() == pytest.approx([2, -7])  # round 0 as it was, then 3 and 4 down
    assert [errand.weights["w"].tolist() for errand in asked] == [[2, 0], [2, -3]]


def test_only_those_who_stay_are_asked_for_half_of_the_epochs() -> None:
    _, asked = answered(ERASER().erase(HISTORY, "u"), lambda name, errand: w(1, 0))
    assert {(errand.who, errand.epochs, errand.what) for errand in asked} == {(("a",), 2, "learn")}


def test_round_0_is_not_asked_again() -> None:
    one = averaged_history(w(0, 0), replies(u=w(9, 9), a=w(2, 0)))
    final, asked = answered(ERASER().erase(one, "u"), nobody)
    assert (final["w"].tolist(), asked) == ([2, 0], [])


def test_an_interval_leaves_rounds_out() -> None:
    final, asked = answered(
        erasers.load("fed_eraser", {"interval": 2}).erase(HISTORY, "u"), lambda name, errand: w(0, -1)
    )
    assert (final["w"].tolist(), len(asked)) == ([2, -4], 1)


def test_nothing_of_the_client_is_used() -> None:
    other = averaged_history(w(0, 0), *(replies(u=w(-70, 3), a=HISTORY[n].told["a"].delta) for n in range(3)), epochs=4)
    finals = [answered(ERASER().erase(one, "u"), lambda name, errand: w(1, 2))[0]["w"] for one in (HISTORY, other)]
    assert torch.equal(*finals)


def test_directions_of_before_give_the_replay_without_the_client() -> None:
    def as_before(name: str, errand: object, rounds: list[int] = [0]) -> dict[str, torch.Tensor]:  # noqa: B006
        rounds[0] += 1
        return HISTORY[rounds[0]].told[name].delta

    final, _ = answered(ERASER().erase(HISTORY, "u"), as_before)
    assert final["w"].tolist() == pytest.approx([2 + 4, 3])


def test_a_client_that_was_absent_is_not_asked_and_one_that_is_silent_now_is_left_out() -> None:
    history = averaged_history(
        w(0), replies(u=w(1), a=w(1), b=w(1)), replies(u=w(1), a=w(2)), replies(u=w(1), a=w(2), b=w(4))
    )
    answers = iter([w(1), None, w(1)])  # a in round 1; a silent, b in round 2
    final, asked = answered(ERASER().erase(history, "u"), lambda name, errand: next(answers))
    assert [errand.who for errand in asked] == [("a",), ("a", "b")]
    assert final["w"].tolist() == [1 + 2 + 4]


def test_a_round_in_which_nobody_answers_is_no_step() -> None:
    final, _ = answered(ERASER().erase(HISTORY, "u"), lambda name, errand: None)
    assert final["w"].tolist() == [2, 0]


def test_epochs_of_calibration_are_rounded_up() -> None:
    assert [calibration_epochs(epochs, ratio) for epochs, ratio in [(3, 0.5), (2, 0.5), (10, 0.1), (10, 0.11)]] == [
        2, 1, 1, 2,
    ]  # fmt: skip


def test_a_few_rounds_follow_where_the_others_are_worse_off() -> None:
    rounds = [replies(loss=0.2, u=w(1), a=w(1))] * 20
    history, said = averaged_history(w(0), *rounds), iter([2.0, 0.23, 0.22])
    procedure, asked = ERASER().erase(history, "u"), []
    told = None
    try:
        while True:
            errand = next(procedure) if told is None else procedure.send(told)
            asked.append(errand)
            told = errand.known or replies(loss=next(said) if not errand.epochs else math.nan, a=w(1))
    except StopIteration as ended:
        final = ended.value
    assert [errand.epochs for errand in asked[20:]] == [0, 1, 0, 1]  # at most two, a tenth of twenty
    assert final["w"].tolist() == [20 + 2]


@pytest.mark.parametrize(("now", "then", "rounds"), [(0.21, 0.2, 0), (0.23, 0.2, 1), (9.0, math.nan, 0)])
def test_no_round_follows_where_they_are_as_well_off_or_that_is_not_known(now: float, then: float, rounds: int) -> None:
    history = averaged_history(w(0), *[replies(loss=then, u=w(1), a=w(1))] * 10)
    procedure, num_asked, told = ERASER().erase(history, "u"), 0, None
    try:
        while True:
            errand = next(procedure) if told is None else procedure.send(told)
            num_asked += errand.epochs > 0
            told = errand.known or replies(loss=now, a=w(1))
    except StopIteration:
        assert num_asked == 10 + rounds
