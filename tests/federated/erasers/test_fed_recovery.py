"""FedRecovery: residuals by brute force, the noise against the exact condition of the Gaussian mechanism."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scipy.stats import norm
from tests.federated.in_memory import answered, averaged_history, nobody, replies, w

from palimpsest.federated import erasers
from palimpsest.federated.erasers.fed_recovery import (
    ERASER,
    assumed_distance,
    epsilon_of,
    noise_deviation,
    recovered_weights,
    residual,
    secret_noise,
    weights_of_rounds,
)


@pytest.mark.parametrize("distance", [0.01, 1, 40])
@pytest.mark.parametrize("epsilon", [0.1, 1, 10])
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9])
def test_the_noise_is_enough_and_not_wasteful(distance: float, epsilon: float, delta: float) -> None:
    # Balle & Wang 2018, theorem 5: two Gaussians are (eps, delta) apart exactly where this is <= delta
    def exact(deviation: float) -> float:
        a, b = distance / (2 * deviation), epsilon * deviation / distance
        return float(norm.cdf(a - b) - math.exp(epsilon) * norm.cdf(-a - b))

    deviation = noise_deviation(distance, epsilon, delta)
    assert exact(deviation) <= delta
    assert exact(deviation / 4) > delta
    assert epsilon_of(distance, deviation, delta) == pytest.approx(epsilon)


def test_no_noise_is_no_guarantee() -> None:
    assert epsilon_of(1.0, 0.0, 1e-5) == math.inf
    assert epsilon_of(0.0, 0.0, 1e-5) == 0


def test_less_noise_is_a_larger_epsilon() -> None:
    assert epsilon_of(1, 1, 1e-5) > epsilon_of(1, 2, 1e-5) > epsilon_of(1, 4, 1e-5) > 0


def test_a_residual_is_the_mean_with_less_the_mean_without() -> None:
    # rows 2:1:1; with (2*8 + 1*2 + 1*4)/4 = 5.5; without (2 + 4)/2 = 3
    history = averaged_history(w(0), replies({"u": 2, "a": 1, "b": 1}, u=w(8), a=w(2), b=w(4)))
    assert residual(history[0], "u")["w"].tolist() == [2.5]


def test_it_is_the_formula_of_the_paper_where_updates_are_steps() -> None:
    # eta/n (1/(n-1) sum_others g - g_u) with updates -eta g: n = 3, eta g = 6, 3, 9
    history = averaged_history(w(0), replies(u=w(-6), a=w(-3), b=w(-9)))
    assert residual(history[0], "u")["w"].tolist() == pytest.approx([((3 + 9) / 2 - 6) / 3])


@pytest.mark.parametrize("told", [replies(a=w(2), b=w(4)), replies(u=w(2))])
def test_where_it_was_absent_or_alone_nothing_can_be_said(told: dict) -> None:  # type: ignore[type-arg]
    assert residual(averaged_history(w(0), told)[0], "u")["w"].tolist() == [0]


HISTORY = averaged_history(w(0, 0), replies(u=w(3, 0), a=w(1, 0)), replies(u=w(0, 0), a=w(0, 2)))


def test_rounds_count_by_the_square_of_what_they_moved() -> None:
    # mean updates (2, 0) and (0, 1): 4/5 and 1/5; residuals (1, 0) and (0, -1); w_T = (2, 1)
    assert recovered_weights(HISTORY, "u")["w"].tolist() == pytest.approx([2 - 0.8, 1 + 0.2])
    assert weights_of_rounds([2, 1]) == pytest.approx([0.8, 0.2])


def test_without_noise_it_takes_off_less_than_one_round() -> None:
    # the trap: the rounds' weights add up to 1, so that ten rounds are hardly more than one
    rounds = [replies(u=w(1), a=w(0))] * 10
    off = 5 - float(recovered_weights(averaged_history(w(0), *rounds), "u")["w"])
    assert off == pytest.approx(0.5, rel=1e-5)


def test_a_client_that_did_as_the_others_takes_nothing_off() -> None:
    history = averaged_history(w(0), replies(u=w(2), a=w(2)), replies(u=w(1), a=w(1)))
    assert recovered_weights(history, "u")["w"].tolist() == [3]


def test_rounds_that_moved_nothing_are_no_division_by_zero() -> None:
    assert recovered_weights(averaged_history(w(5), replies(u=w(0), a=w(0))), "u")["w"].tolist() == [5]


def test_the_noise_has_the_size_of_the_guarantee() -> None:
    start = {"w": torch.zeros(20000)}
    delta = {"w": torch.full((20000,), 1e-3)}
    history = averaged_history(start, replies(u=delta, a=delta))
    final, asked = answered(erasers.load("fed_recovery", {"distance": 2.0, "seed": 7}).erase(history, "u"), nobody)
    found = (final["w"] - recovered_weights(history, "u")["w"]).std().item()
    assert asked == []
    assert found == pytest.approx(noise_deviation(2.0, 1.0, 1e-5), rel=0.02)


def test_the_assumed_distance_is_from_the_start_to_both() -> None:
    recovered = recovered_weights(HISTORY, "u")
    assert assumed_distance(HISTORY, recovered) == pytest.approx(math.hypot(1.2, 1.2) + math.hypot(2, 1))


def test_the_noise_is_by_the_owners_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def erased(key: str, gone: str = "u") -> list[float]:
        monkeypatch.setenv("PALIMPSEST_KEY_FILE", str(tmp_path / key))
        return answered(ERASER().erase(HISTORY, gone), nobody)[0]["w"].tolist()

    assert erased("one") == erased("one")  # a run that died goes on with the same bits
    assert len({tuple(erased(*who)) for who in [("one",), ("two",), ("one", "a")]}) == 3


def test_keys_are_of_128_bits() -> None:
    assert not torch.equal(*(secret_noise(w(*[0] * 9), key)["w"] for key in (1, 1 + 2**100)))


def test_no_noise_where_none_is_wanted() -> None:
    final, _ = answered(erasers.load("fed_recovery", {"deviation": 0.0}).erase(HISTORY, "u"), nobody)
    assert torch.equal(final["w"], recovered_weights(HISTORY, "u")["w"])
