"""ε of noise: against the integral that defines it, against published values, and what is said of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palimpsest.federated.accounting import client_epsilon, delta_of, renyi_bound
from palimpsest.federated.federated_plan import FederatedPlan
from palimpsest.federated.going_through import Combining
from palimpsest.federated.privacy_said import epsilon_of_plan, privacy_note


@pytest.mark.parametrize(("epsilon", "mu"), [(0.5, 0.3), (1.0, 1.0), (3.0, 2.0)])
def test_delta_is_the_integral_of_what_one_density_has_beyond_the_other(epsilon: float, mu: float) -> None:
    """δ(ε) = ∫ max(0, p(x) − e^ε q(x)) dx of N(μ, 1) and N(0, 1)."""
    x = np.linspace(-20, 20, 2_000_001)
    p, q = (np.exp(-((x - middle) ** 2) / 2) / math.sqrt(2 * math.pi) for middle in (mu, 0.0))
    brute = np.maximum(0, p - math.exp(epsilon) * q).sum() * (x[1] - x[0])
    assert delta_of(epsilon, mu) == pytest.approx(brute, rel=1e-5)


def test_rounds_add_up_as_one_round_of_a_larger_shift() -> None:
    """T rounds with z are one with z / √T: 1/z² adds up."""
    assert client_epsilon(3.0, 9) == pytest.approx(client_epsilon(1.0, 1), rel=1e-6)
    assert client_epsilon(1.0, 2) > client_epsilon(1.0, 1)


def test_the_best_order_of_renyi_is_the_bound_and_lies_above() -> None:
    """min over α of α T / 2z² + ln(1/δ) / (α − 1), on a grid."""
    for noise, rounds in ((1.0, 1), (2.0, 20), (0.7, 3)):
        orders = 1 + np.geomspace(1e-3, 1e4, 400_001)
        brute = (orders * rounds / (2 * noise**2) + math.log(1e5) / (orders - 1)).min()
        assert renyi_bound(noise, rounds) == pytest.approx(brute, rel=1e-6)
        assert 0.6 * brute < client_epsilon(noise, rounds) < brute


def test_the_epsilon_that_is_told_has_that_delta_and_a_smaller_one_has_not() -> None:
    epsilon = client_epsilon(1.3, 7, 1e-6)
    mu = math.sqrt(7) / 1.3
    assert delta_of(epsilon, mu) <= 1e-6 < delta_of(epsilon * (1 - 1e-5), mu)


def test_the_deviation_of_dwork_and_roth_is_known_to_be_more_than_is_needed() -> None:
    """Their σ = √(2 ln 1.25/δ) / ε for ε = 0.5: the exact ε of that noise is below (Balle & Wang 2018, figure 1)."""
    noise = math.sqrt(2 * math.log(1.25 / 1e-5)) / 0.5
    assert 0.3 < client_epsilon(noise, 1) < 0.5


def test_limits() -> None:
    assert client_epsilon(0.0, 1) == math.inf
    assert client_epsilon(1e4, 1) < 1e-3
    assert client_epsilon(0.01, 50) == renyi_bound(0.01, 50)  # no privacy: the bound will do


def plan(**other: object) -> FederatedPlan:
    given = {"kind": "federate", "model": "m", "files": {}, "local": {}, "rounds": 4, **other}
    return FederatedPlan.model_validate({"combining": Combining(noise_multiplier=2.0, clipping_norm=0.5), **given})


def test_what_is_said() -> None:
    assert epsilon_of_plan(plan(), 4) == pytest.approx(client_epsilon(2.0, 4))
    said = privacy_note(plan(), 4)
    assert "epsilon 4.38 at delta 1e-05, of 4 rounds with noise of 2 times the norm 0.5" in said
    assert "rounds beside them" in said
    assert privacy_note(plan(combining=Combining()), 4) == ""
    assert "no noise is added" in privacy_note(plan(combining=Combining(noise_multiplier=0.0)), 4)


@pytest.mark.parametrize(
    ("other", "why"), [({"rounds": None}, "give --rounds N"), ({"kind": "erase", "gone": "a"}, "an erasure uses")]
)
def test_where_it_cannot_be_told_the_reason_is(other: dict[str, object], why: str) -> None:
    assert epsilon_of_plan(plan(**other), 4) is None
    assert "epsilon is not computed: " in privacy_note(plan(**other), 4)
    assert why in privacy_note(plan(**other), 4)
