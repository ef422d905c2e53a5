from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from palimpsest.audit.comparison import Draws, paired, unpaired

MANY = Draws(seed=0, resamples=20_000)


def named(values: list[float]) -> dict[str, float | None]:
    return {str(i): v for i, v in enumerate(values)}


def exact_interval(values: list[float]) -> tuple[float, float]:
    """2.5 % and 97.5 % points of equally likely values."""
    low, high = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def test_paired_ratio_against_all_resamples() -> None:
    # Every one of the 4**4 equally likely resamples of four pairs.
    a, b = [3.0, 5.0, 2.0, 8.0], [2.0, 6.0, 3.0, 4.0]
    ratios = [sum(a[i] for i in draw) / sum(b[i] for i in draw) for draw in product(range(4), repeat=4)]
    low, high = exact_interval(ratios)
    result = paired(named(a), named(b), "ratio", draws=MANY)
    assert result.value == pytest.approx(18 / 15)
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.02)
    assert result.n == 4


def test_unpaired_difference_against_all_resamples() -> None:
    a, b = [0.0, 1.0, 0.5], [0.0, 1.0, 1.0, 0.25]
    means_a = [sum(a[i] for i in draw) / 3 for draw in product(range(3), repeat=3)]
    means_b = [sum(b[i] for i in draw) / 4 for draw in product(range(4), repeat=4)]
    low, high = exact_interval([x - y for x in means_a for y in means_b])
    result = unpaired(named(a), named(b), "difference", draws=MANY)
    assert result.value == pytest.approx(0.5 - 0.5625)
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.03)
    assert result.n == 3


@pytest.mark.parametrize("compare", [paired, unpaired])
def test_geometric_ratio_by_hand(compare: type[paired]) -> None:  # type: ignore[valid-type]
    # Ratios 2 and 8: their geometric mean is 4, while the ratio of the means is 10 / 2 = 5.
    a, b = named([2.0, 8.0]), named([1.0, 1.0])
    assert compare(a, b, "ratio", average="geometric").value == pytest.approx(4.0)
    assert compare(a, b, "ratio").value == pytest.approx(5.0)


def test_only_ids_scored_on_both_sides_are_paired() -> None:
    a = {"x": 1.0, "y": None, "z": 3.0, "only here": 9.0}
    b = {"x": 2.0, "y": 1.0, "z": 2.0}
    assert paired(a, b, "ratio")[0::3] == (1.0, 2)
    assert paired(a, b, "difference")[0::3] == (0.0, 2)


def test_a_value_without_logarithm_leaves_the_geometric_ratio() -> None:
    assert paired(named([0.0, 4.0]), named([1.0, 2.0]), "ratio", average="geometric")[0::3] == (2.0, 1)


@pytest.mark.parametrize("compare", [paired, unpaired])
def test_what_is_not_defined_is_none(compare: type[paired]) -> None:  # type: ignore[valid-type]
    assert compare({}, {}, "difference") == (None, None, None, 0)
    assert compare({}, {}, "ratio") == (None, None, None, 0)
    assert compare(named([1.0, 1.0]), named([0.0, 0.0]), "ratio") == (None, None, None, 2)


@pytest.mark.parametrize("compare", [paired, unpaired])
def test_one_example_has_no_interval(compare: type[paired]) -> None:  # type: ignore[valid-type]
    assert compare(named([2.0]), named([1.0]), "ratio") == (2.0, None, None, 1)
    assert compare(named([2.0]), named([1.0]), "difference") == (1.0, None, None, 1)


@pytest.mark.parametrize("compare", [paired, unpaired])
def test_a_resampled_zero_denominator_leaves_no_finite_interval(compare: type[paired]) -> None:  # type: ignore[valid-type]
    # Half of the references are 0: a sixteenth of the resamples of four has only zeros below.
    result = compare(named([1.0] * 4), named([0.0, 0.0, 1.0, 1.0]), "ratio")
    assert result.value == 2.0
    assert result.high is not None
    assert not math.isfinite(result.high)


@pytest.mark.parametrize("compare", [paired, unpaired])
def test_same_seed_same_interval(compare: type[paired]) -> None:  # type: ignore[valid-type]
    a, b = named([0.137, 0.71, 0.32, 0.93, 0.55]), named([0.21, 0.433, 0.62, 0.87, 0.29])
    one, two, other = (compare(a, b, "ratio", draws=Draws(seed)) for seed in (1, 1, 2))
    assert one == two
    assert one.value == other.value
    assert one != other
