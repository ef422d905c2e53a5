"""Whether a forget set has more rows of another class than chance explains, by counting all cases."""

from __future__ import annotations

import itertools
import math

import pytest

from palimpsest.control.told import ToldClasses, at_least


@pytest.mark.parametrize("chances", [(0.3,), (0.1, 0.5, 0.9), (0.05, 0.2, 0.2, 0.7, 1.0)])
def test_the_tail_is_the_sum_over_all_cases(chances):
    for count in range(len(chances) + 2):
        cases = itertools.product((0, 1), repeat=len(chances))
        likely = [
            math.prod(p if x else 1 - p for x, p in zip(case, chances, strict=True))
            for case in cases
            if sum(case) >= count
        ]
        assert at_least(count, chances) == pytest.approx(math.fsum(likely))


def told(strange: int, rows: int, *, unseen: dict[int, tuple[int, int]], label: int = 0) -> ToldClasses:
    """A forget set of one class; of the holdout class -> (strange, rows)."""
    forget = {f"f{i}": i >= strange for i in range(rows)}
    others = {(c, i): i >= m for c, (m, n) in unseen.items() for i in range(n)}
    seen = {f"u{c}-{i}": value for (c, i), value in others.items()}
    classes = {f"u{c}-{i}": c for c, i in others} | dict.fromkeys(forget, label)
    return ToldClasses(forget, seen, classes, "its words")


def test_what_is_expected_is_of_the_class_of_the_row():
    """p = (10 + 1) / (40 + 2); of class 0 nine of ten are strange, of class 1 one of thirty."""
    hard = told(4, 4, unseen={0: (9, 10), 1: (1, 30)})
    assert hard.expected == pytest.approx([(9 + 11 / 42) / 11] * 4)
    assert not hard.is_unlike, "a class that is hard is no forget set of wrong labels"
    assert hard.ordinary == 1.0
    easy = told(4, 4, unseen={0: (9, 10), 1: (1, 30)}, label=1)
    assert easy.is_unlike
    assert easy.ordinary == pytest.approx((1 + 11 / 42) / 31)


def test_one_row_is_never_unlike_where_a_hundredth_of_the_others_is():
    assert not told(1, 1, unseen={0: (3, 300)}).is_unlike
    assert told(6, 20, unseen={0: (3, 300)}).is_unlike


def test_without_a_holdout_nothing_is_said():
    assert not told(6, 6, unseen={}).is_unlike
