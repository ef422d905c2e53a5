"""Flower's strategies over clients' changes, by hand, and the noise of privacy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.federated_flower.lies import LIES
from tests.federated_flower.toys import START

from palimpsest.companions.marks import MarkKey
from palimpsest.companions.round_record import Reply
from palimpsest.errors import PlanError
from palimpsest.federated.flower.combining import COMBININGS, Private, combining

KEY = MarkKey(bytes(range(32)))


def told(**values: float) -> dict[str, Reply]:
    """Answers that move every coordinate by one number each; the first has a hundred times the rows of the others."""
    return {
        name: Reply(name, {n: torch.full_like(t, value) for n, t in START.items()}, 100 if name == "a" else 1, 0.5, 0.1)
        for name, value in values.items()
    }


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("mean", (100 * 0.1 + 0.2 + 0.3 - 900.0) / 103),
        ("median", 0.15),
        ("trimmed_mean", 0.15),  # of four, one is left out at either end
        ("krum", 0.2),  # half-way between two that are 0.1 away: the nearest of them all is 0.1 from it
    ],
)
def test_one_liar_moves_the_mean_and_none_of_the_others(name: str, moved: float) -> None:
    after = combining(name)(START, told(a=0.1, b=0.2, c=0.3, d=-900.0))
    got = {key: float((after[key] - START[key]).flatten()[0]) for key in START}
    if name == "krum":  # any of the three that are near to each other
        assert got["w"] == pytest.approx(got["v"], abs=1e-6)
        assert min(abs(got["w"] - value) for value in (0.1, 0.2, 0.3)) < 1e-6
    else:
        assert got == pytest.approx(dict.fromkeys(START, moved), abs=1e-5)
    assert [(n, t.shape, t.dtype) for n, t in after.items()] == [(n, t.shape, t.dtype) for n, t in START.items()]


@pytest.mark.parametrize("lie", sorted(set(LIES) - {"nan"}))
@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum"])
def test_of_three_one_liar_leads_nowhere_that_the_honest_would_not(name: str, lie: str) -> None:
    """Median and trimmed mean of three lie between the honest, coordinate by coordinate; krum takes one of them."""
    draw = torch.Generator().manual_seed(0)
    shared = {key: torch.randn(tensor.shape, generator=draw) for key, tensor in START.items()}
    own = [{key: t + 0.3 * torch.randn(t.shape, generator=draw) for key, t in shared.items()} for _ in range(3)]
    own[2] = {key: LIES[lie](tensor) for key, tensor in own[2].items()}
    after = combining(name)(START, {who: Reply(who, delta, 1, 0.5, 0.1) for who, delta in zip("abc", own, strict=True)})
    moved = {key: after[key] - START[key] for key in START}
    if name == "krum":
        assert any(all(torch.allclose(moved[key], one[key], atol=1e-6) for key in START) for one in own[:2])
    else:
        low, high = ({key: end(own[0][key], own[1][key]) for key in START} for end in (torch.minimum, torch.maximum))
        assert all(((moved[key] >= low[key] - 1e-6) & (moved[key] <= high[key] + 1e-6)).all() for key in START)


def test_krum_takes_small_changes_of_large_weights_apart() -> None:
    # On weights of 1e4 and in fp32 the distances of these changes would all be rounded to nothing or below.
    weights = {name: torch.full_like(tensor, 1e4) for name, tensor in START.items()}
    near = {f"c{n}": 0.01 + 1e-5 * n for n in range(4)}
    after = combining("krum")(weights, told(**near, z=-0.01))
    assert float((after["w"] - weights["w"]).mean()) > 0


def test_nobody_moves_nothing() -> None:
    for name in COMBININGS:
        assert all(torch.equal(combining(name)(START, {})[key], START[key]) for key in START)


def test_a_private_mean_is_clipped_counts_clients_alike_and_repeats_its_noise() -> None:
    answers = told(a=3.0, b=-0.01)
    numbers = sum(tensor.numel() for tensor in START.values())
    clipped = 1.0 / math.sqrt(numbers)  # of a norm of 3·√7
    exact = combining("mean", Private(0.0, 1.0, KEY))(START, answers)
    assert float(exact["v"] - START["v"]) == pytest.approx((clipped - 0.01) / 2, rel=1e-5)
    before = np.random.get_state()[1].copy()
    noisy, again = (combining("mean", Private(2.0, 1.0, KEY))(START, answers) for _ in range(2))
    other = combining("mean", Private(2.0, 1.0, MarkKey(bytes(32))))(START, answers)
    assert (np.random.get_state()[1] == before).all(), "the common generator is where it was"
    assert all(torch.equal(noisy[name], again[name]) for name in START), "a run that goes on shows no second noise"
    assert not torch.equal(noisy["w"], other["w"]), "who has not the key cannot draw it"
    assert not torch.equal(noisy["w"], exact["w"])


def test_the_noise_has_the_size_that_is_said() -> None:
    large = {"w": torch.zeros(40_000)}
    answers = {n: Reply(n, {"w": torch.full((40_000,), 1e-9)}, 1, 0.5, 0.1) for n in "abcd"}
    noise = combining("mean", Private(2.0, 0.5, KEY))(large, answers)["w"]
    assert float(noise.std()) == pytest.approx(2.0 * 0.5 / 4, rel=0.02)


def test_refusals() -> None:
    with pytest.raises(PlanError, match="'krun'.*krum"):
        combining("krun")
    with pytest.raises(PlanError, match="for the mean of clients, not for 'median'"):
        combining("median", Private(1.0, 1.0, KEY))
