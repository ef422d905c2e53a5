"""Calibration: the bisection against a search of every point, the bound of both directions, a model worked by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.audit.calibration import (
    Calibrated,
    MixedPoint,
    bound_of,
    calibrated,
    check_settings,
    halvings_of,
    largest_kept,
    unevenness,
)
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import DataError, PlanError
from palimpsest.models.load import Loaded
from palimpsest.records import Direction

GRID = 64


def asked_of(kept):
    """A test of a point, and the points that were asked."""
    asked: list[float] = []

    def is_kept(alpha: float) -> bool:
        asked.append(alpha)
        return kept(alpha)

    return is_kept, asked


@given(st.floats(0, 1))
def test_of_a_monotone_curve_it_finds_what_a_search_of_the_whole_grid_finds(edge):
    is_kept, asked = asked_of(lambda alpha: alpha <= edge)
    found = largest_kept(is_kept, 6)
    assert found == max(k / GRID for k in range(GRID + 1) if k / GRID <= edge)
    assert 0 <= edge - found < 1 / GRID or found == 1
    assert len(asked) <= 7
    assert asked[0] == 1


@given(st.lists(st.booleans(), min_size=GRID, max_size=GRID))
def test_of_any_curve_it_finds_an_upper_end(pattern):
    """What is found is kept, the next one is not, and nothing above it that was asked is."""
    kept = [True, *pattern]
    is_kept, asked = asked_of(lambda alpha: kept[round(alpha * GRID)])
    found = round(largest_kept(is_kept, 6) * GRID)
    assert kept[found]
    assert found == GRID or not kept[found + 1]
    assert not any(kept[round(alpha * GRID)] for alpha in asked if alpha * GRID > found)
    assert len(asked) <= 7


@pytest.mark.parametrize(("tolerance", "halvings"), [(1, 0), (0.5, 1), (1 / 64, 6), (1 / 65, 7), (0.02, 6)])
def test_halvings_until_an_interval_is_short_enough(tolerance, halvings):
    assert halvings_of(tolerance) == halvings
    assert 0.5**halvings <= tolerance


@pytest.mark.parametrize(
    ("values", "direction", "expected"),
    [
        ([1.0, 0.8, 0.8, 0.1], Direction.HIGHER, 0.0),
        ([1.0, 0.5, 0.7, 0.6, 0.65], Direction.HIGHER, 0.2),
        ([5.0, 6.0, 9.0], Direction.LOWER, 0.0),
        ([5.0, 8.0, 6.5, math.inf], Direction.LOWER, 1.5),
        ([0.3], Direction.HIGHER, 0.0),
    ],
)
def test_unevenness_by_hand_and_over_all_pairs(values, direction, expected):
    points = [MixedPoint(k / 8, value) for k, value in enumerate(values)]
    assert unevenness(list(reversed(points)), direction) == pytest.approx(expected)
    sign = 1 if direction is Direction.HIGHER else -1
    pairs = [sign * (b - a) for k, a in enumerate(values) for b in values[k:] if math.isfinite(b)]
    assert unevenness(points, direction) == pytest.approx(max(0.0, *pairs))


def test_the_bound_of_both_directions():
    assert bound_of(0.5, 0.9, Direction.HIGHER) == pytest.approx(0.45)
    assert bound_of(4.5, 0.9, Direction.LOWER) == pytest.approx(5.0)


@pytest.mark.parametrize("tau", [0, -1, 1.01, float("nan"), True, "0.9"])
def test_shares_outside_are_refused(tau):
    with pytest.raises(PlanError, match="tau is .*accepted: above 0, at most 1"):
        check_settings(tau, 1 / 64, Direction.HIGHER, "es")


@pytest.mark.parametrize("tolerance", [0, 2, -0.5, None])
def test_tolerances_outside_are_refused(tolerance):
    with pytest.raises(PlanError, match="tolerance is"):
        check_settings(0.95, tolerance, Direction.HIGHER, "es")


def test_a_metric_that_points_neither_way_is_refused():
    with pytest.raises(PlanError, match="'entropy' says neither way"):
        check_settings(0.95, 1 / 64, Direction.NEITHER, "entropy")


class Bigram(torch.nn.Module):
    """Each token's logits are a row of a table: what is known of a text can be read off."""

    def __init__(self, table_VV: torch.Tensor) -> None:
        super().__init__()
        self.table_VV = torch.nn.Parameter(table_VV)
        self.config = SimpleNamespace(vocab_size=len(table_VV))

    def forward(self, input_ids, attention_mask=None, **_):
        return SimpleNamespace(logits=self.table_VV[input_ids], past_key_values=None)


WORDS = 8
CHAIN = tuple(range(WORDS))


def chain(strengths: list[float]) -> Bigram:
    """Word k is followed by k + 1, so strongly; by itself with strength 1."""
    table_VV = torch.eye(WORDS)
    for word, strength in enumerate(strengths):
        table_VV[word, word + 1] = strength
    return Bigram(table_VV)


def loaded(model: Bigram, name: str) -> Loaded:
    return Loaded(model.eval(), None, name)


@pytest.fixture
def retain() -> TextSet:
    return TextSet([TokenSequence("a", CHAIN, (False, *([True] * (WORDS - 1))))], pad_id=0)


def known_at(alpha: float, strengths: list[float]) -> float:
    """MA of the mixed chain: the link from k holds while (1 − α) 2 + α s > 1."""
    return sum((1 - alpha) * 2 + alpha * s > 1 for s in strengths) / len(strengths)


STRENGTHS = [2.0, 0.9, 0.5, 0.0, -1.0, -3.0, -8.0]


@pytest.mark.parametrize("tau", [0.99, 0.8, 0.5, 0.2, 0.1])
@pytest.mark.parametrize("metric", ["ma"])
def test_a_model_worked_by_hand(retain, tau, metric):
    before, after = loaded(chain([2.0] * 7), "A"), loaded(chain(STRENGTHS), "B")
    found = calibrated(before, after, retain, metric=metric, tau=tau)
    fine = [k / GRID for k in range(GRID + 1)]
    assert found.alpha == max(alpha for alpha in fine if known_at(alpha, STRENGTHS) >= tau)
    assert [point.value for point in found.points] == pytest.approx(
        [known_at(point.alpha, STRENGTHS) for point in found.points]
    )
    assert isinstance(found, Calibrated)
    assert found.evaluations <= 7
    assert found.even
    assert found.bound == tau
    assert (found.points[0].alpha, found.points[-1].alpha) == (0, 1)


def test_of_a_metric_where_lower_is_known_the_bound_lies_above(retain):
    before, after = loaded(chain([2.0] * 7), "A"), loaded(chain(STRENGTHS), "B")
    found = calibrated(before, after, retain, metric="nll", tau=0.5)
    values = {point.alpha: point.value for point in found.points}
    assert found.bound == pytest.approx(2 * values[0.0])
    assert values[found.alpha] <= found.bound < values[found.alpha + 1 / GRID]
    assert found.even


def test_a_change_that_costs_nothing_stays_whole(retain):
    before, after = loaded(chain([2.0] * 7), "A"), loaded(chain([3.0] * 7), "B")
    found = calibrated(before, after, retain, metric="es")
    assert (found.alpha, found.evaluations) == (1.0, 1)


def test_nothing_is_taken_twice(retain):
    before, after = loaded(chain([2.0] * 7), "A"), loaded(chain(STRENGTHS), "B")
    kept: dict[str, object] = {}

    def remember(name, compute):
        return kept.setdefault(name, None) or kept.__setitem__(name, compute()) or kept[name]

    first = calibrated(before, after, retain, metric="ma", tau=0.5, remember=remember)
    assert len(kept) == first.evaluations + 1
    assert calibrated(before, loaded(chain([9.0] * 7), "C"), retain, metric="ma", tau=0.5, remember=remember) == first


def test_a_model_that_knows_nothing_of_the_rows_has_no_share_to_keep(retain):
    before, after = loaded(chain([0.0] * 7), "A"), loaded(chain(STRENGTHS), "B")
    with pytest.raises(DataError, match="model A has ma 0 on the rows that must stay, and no share"):
        calibrated(before, after, retain, metric="ma")


def test_metrics_that_there_are_not_are_refused(retain):
    with pytest.raises(PlanError, match="esx"):
        calibrated(loaded(chain([2.0] * 7), "A"), loaded(chain(STRENGTHS), "B"), retain, metric="esx")
