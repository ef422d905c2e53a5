"""The most known, the middle, the least known; and none twice."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.audit.standing import evenly, ranked, standing
from palimpsest.records import Direction, Score


def score(metric: str, direction: Direction = Direction.HIGHER, **by_id: float | None) -> Score:
    return Score(metric, None, None, None, 0, 0, direction, "", 1, by_id)


def test_worst_is_most_known_and_median_in_the_middle() -> None:
    scores = {"ma": score("ma", a=0.5, b=0.9, c=0.1, d=0.7, e=0.3)}
    assert standing(scores) == {"b": "worst", "a": "median", "c": "best"}
    assert list(standing(scores)) == ["b", "a", "c"]


def test_of_what_was_learned_the_worst_is_the_least_known() -> None:
    scores = {"ma": score("ma", a=0.5, b=0.9, c=0.1)}
    assert standing(scores, learned=True) == {"c": "worst", "a": "median", "b": "best"}


def test_of_an_even_number_the_median_is_the_one_nearer_the_worst() -> None:
    scores = {"ma": score("ma", a=0.1, b=0.2, c=0.3, d=0.4)}
    assert standing(scores) == {"d": "worst", "c": "median", "a": "best"}
    assert standing(scores, learned=True) == {"a": "worst", "b": "median", "d": "best"}


@pytest.mark.parametrize(("values", "expected"), [({}, {}), ({"a": 0.5}, {"a": "worst"})])
def test_what_there_is(values: dict[str, float], expected: dict[str, str]) -> None:
    assert standing({"ma": score("ma", **values)}) == expected


def test_two_are_worst_and_best() -> None:
    assert standing({"ma": score("ma", a=0.5, b=0.6)}) == {"b": "worst", "a": "best"}


def test_ma_leads_es_breaks_ties_and_then_the_order_of_the_set() -> None:
    """a is recited up to its last word, so that its ES is 0; b and c tie in MA."""
    scores = {"es": score("es", a=0.0, b=0.2, c=0.3, d=0.3), "ma": score("ma", a=0.9, b=0.5, c=0.5, d=0.5)}
    assert ranked(scores) == ("a", "c", "d", "b")


def test_images_go_by_accuracy_and_then_probability() -> None:
    scores = {"prob": score("prob", a=0.45, b=0.4, c=0.5), "accuracy": score("accuracy", a=0, b=1, c=1)}
    assert ranked(scores) == ("c", "b", "a")


def test_perplexity_points_the_other_way() -> None:
    assert ranked({"ppl": score("ppl", Direction.LOWER, a=9.0, b=2.0)}) == ("b", "a")


def test_what_cannot_be_scored_is_shown_only_where_nothing_can() -> None:
    scores = {"el_10": score("el_10", short=None, a=0.1, b=0.2)}
    assert ranked(scores) == ("b", "a", "short")
    assert standing(scores) == {"b": "worst", "a": "best"}
    assert standing({"el_10": score("el_10", s=None, t=None)}) == {"s": "worst", "t": "best"}


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), max_size=9), st.booleans())
def test_nobody_stands_twice_and_nobody_chosen_is_less_known_than_the_best(values, learned) -> None:
    scores = {"ma": score("ma", **{f"x{k}": value for k, value in enumerate(values)})}
    chosen = standing(scores, learned=learned)
    scorable = [value for value in values if value is not None]
    assert len(chosen) == min(3, len(scorable) or len(values))
    if scorable:
        shown = [scores["ma"].by_id[i] for i in chosen]
        worst, best = shown[0], shown[-1]
        assert worst == (min(scorable) if learned else max(scorable))
        assert best == (max(scorable) if learned else min(scorable)) or len(chosen) == 1


@given(st.integers(1, 40), st.integers(1, 45))
def test_evenly_takes_so_many_in_order_from_end_to_end(size: int, count: int) -> None:
    ids = [f"x{k}" for k in range(size)]
    found = evenly(ids, count)
    places = [ids.index(i) for i in found]
    assert len(found) == min(size, count)
    assert places == sorted(set(places))
    assert places[0] == 0
    if count > 1:
        assert places[-1] == size - 1
        gaps = [b - a for a, b in pairwise(places)]
        assert not gaps or max(gaps) - min(gaps) <= 1
