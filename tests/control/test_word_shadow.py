"""What words say of a class, by hand."""

from __future__ import annotations

import math

import pytest

from palimpsest.control.word_shadow import WordShadow

STAYING = [((1, 2), 0), ((1, 3), 0), ((1, 1), 0), ((4, 2), 1)]


def test_the_score_by_hand():
    """Class 0: three texts, all with 1, one with 2. log 3 + log 4/5 + log 2/5; class 1: log 1 + log 1/3 + log 2/3."""
    shadow = WordShadow(STAYING)
    assert shadow._score({1, 2}, 0) == pytest.approx(math.log(3 * 4 / 5 * 2 / 5))
    assert shadow._score({1, 2}, 1) == pytest.approx(math.log(1 / 3 * 2 / 3))


def test_a_class_is_told_by_words_and_by_how_many_texts_it_has():
    shadow = WordShadow(STAYING)
    assert shadow.tells((1, 9), 0)
    assert not shadow.tells((1, 9), 1)
    assert shadow.tells((4, 4), 1)  # 1 · 2/3 is more than 3 · 1/5
    assert not shadow.tells((2,), 7)  # a class that nothing which stays is of


def test_how_often_and_where_a_word_stands_is_nothing_to_it():
    shadow = WordShadow(STAYING)
    for label in (0, 1):
        assert shadow.tells((2, 4, 4, 2), label) is shadow.tells((4, 2), label) is (label == 1)


def test_of_nothing():
    assert not WordShadow([]).classes
    assert WordShadow(STAYING).classes == {0, 1}
