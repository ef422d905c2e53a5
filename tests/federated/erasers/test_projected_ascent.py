"""The ball of Halimi et al.: its centre is the others' mean, its radius is in distances, and rounds after it end."""

from __future__ import annotations

import math

import pytest
import torch
from tests.federated.in_memory import answered, averaged_history, replies, w

from palimpsest.errors import DataError
from palimpsest.federated import erasers
from palimpsest.federated.arithmetic import l2_norm, onto_ball
from palimpsest.federated.erasers.projected_ascent import ERASER, another_order, ball_radius, reference_weights


def test_alike_clients_give_the_formula_of_the_paper() -> None:
    # K = 3, w_T = 4, w_u = 10: (3 * 4 - 10) / 2
    assert reference_weights(w(4), w(10), 1 / 3)["w"].tolist() == pytest.approx([1])


def test_the_reference_is_the_mean_of_the_others_where_clients_are_of_several_sizes() -> None:
    history = averaged_history(w(1, 1), replies({"u": 5, "a": 1, "b": 2}, u=w(8, -8), a=w(3, 0), b=w(0, 3)))
    _, asked = answered(ERASER().erase(history, "u"), lambda name, errand: w(0, 0))
    assert asked[0].weights["w"].tolist() == pytest.approx([1 + 3 / 3, 1 + 6 / 3], abs=1e-6)


def test_the_radius_is_the_root_of_a_third_of_the_mean_square() -> None:
    nets = [w(3, 0), w(0, 0), w(0, 6)]
    assert ball_radius(w(0, 0), iter(nets)) == pytest.approx(math.sqrt((9 + 0 + 36) / 3 / 3))


def test_a_random_net_has_the_same_numbers_in_another_order() -> None:
    start = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.zeros(4)}
    one, other = another_order(start, 0), another_order(start, 1)
    assert one["a"].flatten().sort().values.tolist() == list(map(float, range(12)))
    assert not torch.equal(one["a"], other["a"])
    assert one["b"].tolist() == [0] * 4  # LoRA's B


@pytest.mark.parametrize(("at", "there"), [(w(3, 4), [3, 4]), (w(6, 8), [3, 4]), (w(0, 0), [0, 0])])
def test_the_ball(at: dict[str, torch.Tensor], there: list[float]) -> None:
    projected = onto_ball(at, w(0, 0), 5)
    assert projected["w"].tolist() == pytest.approx(there)
    assert l2_norm(projected) <= 5 + 1e-6


def test_the_client_is_told_where_to_stop() -> None:
    history = averaged_history(
        w(1, 2), replies(loss=2.5, u=w(1, 0), a=w(0, 1)), replies(loss=0.1, u=w(1, 0), a=w(0, 1))
    )
    _, (asked, *_) = answered(ERASER().erase(history, "u"), lambda name, errand: w(0, 0))
    assert (asked.what, asked.who, asked.epochs) == ("ascend", ("u",), 5)
    assert asked.settings["until"] == 2.5  # its loss before anything was learned
    assert {"learning_rate": 0.01, "momentum": 0.9, "clip": 5.0}.items() <= asked.settings.items()


def test_an_unknown_first_loss_is_no_stop() -> None:
    history = averaged_history(w(1), replies(loss=math.nan, u=w(1), a=w(0)))
    _, (asked, *_) = answered(ERASER().erase(history, "u"), lambda name, errand: w(0))
    assert "until" not in asked.settings


def losing(*losses: float):  # type: ignore[no-untyped-def]
    """Clients whose loss is said in this order after the ascent."""
    history = averaged_history(w(1), replies(loss=0.5, u=w(1), a=w(0)))
    procedure, left, asked = erasers.load("projected_ascent", {"most_rounds": 9}).erase(history, "u"), list(losses), 0
    told = None
    try:
        while True:
            errand = next(procedure) if told is None else procedure.send(told)
            asked += errand.what == "learn"
            told = replies(loss=left.pop(0) if errand.what == "learn" else 0.0, **{name: w(1) for name in errand.who})
    except StopIteration as ended:
        return asked, ended.value["w"].tolist()


def test_the_others_go_on_until_they_are_as_good_as_before() -> None:
    # a's weights 1, the ascent +1; a round +1 each while the loss is above 0.5
    assert losing(2.0, 1.0, 0.5) == (3, [4.0])


def test_the_others_stop_where_the_loss_falls_no_more() -> None:
    assert losing(2.0, 2.0, 2.0, 2.0)[0] == 3


def test_a_client_that_is_gone_for_good_leaves_the_reference() -> None:
    history = averaged_history(w(1), replies(u=w(1), a=w(3)))
    final, _ = answered(ERASER().erase(history, "u"), lambda name, errand: None)
    assert final["w"].tolist() == [4]


def test_a_client_that_was_alone_is_refused() -> None:
    with pytest.raises(DataError, match="alone in its last round"):
        answered(ERASER().erase(averaged_history(w(1), replies(u=w(1))), "u"), lambda name, errand: None)


def test_a_client_that_never_answered_is_refused() -> None:
    with pytest.raises(DataError, match="answered in no round"):
        answered(ERASER().erase(averaged_history(w(1), replies(a=w(1))), "u"), lambda name, errand: None)
