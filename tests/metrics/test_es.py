from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.metrics.es import ES
from palimpsest.metrics.metric import Facts


@pytest.mark.parametrize(
    ("right", "value"),
    [
        ([True, False, True, True], 0.5),
        ([False, False, False, True], 0.25),
        ([False] * 4, 0.0),
        ([True] * 4, 1.0),
        ([True, True, True, False], 0.0),
        ([True], 1.0),
        ([False], 0.0),
    ],
)
def test_hand_worked_examples(facts_of, right, value):
    assert ES().compute({"x": ES().update(facts_of(right))}).value == value


def test_without_labels_it_is_unscored(facts_of):
    assert ES().update(facts_of([])) is None


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_equals_the_definition(right):
    """Try every k from 0 until the rest is right."""
    length = len(right)
    k = next(k for k in range(length + 1) if all(right[k:]))
    tokens = np.arange(length + 1)
    facts = Facts(tokens, tokens[1:], np.array(right), np.zeros(length), ends_with_eos=False)
    assert ES().update(facts) == (length - k, length)
