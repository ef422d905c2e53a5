"""BLEU against an independent implementation, by hand, and its laws."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palimpsest.audit.bleu import sentence_bleu


@pytest.fixture(scope="module")
def nltk_bleu() -> Callable[..., float]:
    """Imported here, because it takes seconds and only one test needs it."""
    from nltk.translate.bleu_score import sentence_bleu

    return sentence_bleu


few_words = st.lists(st.sampled_from("abc"), max_size=14)


@settings(deadline=None)
@given(few_words, few_words.filter(bool))
@example(list("abcabcab"), list("abcabc"))
@example(list("abcd"), list("abcdabcd"))
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:\\s*The hypothesis contains 0 counts:UserWarning")
def test_equals_nltk_without_smoothing(nltk_bleu, candidate, reference):
    """Where an order has no match, nltk's floor of the smallest float leaves at most about 1e-77."""
    theirs = float(nltk_bleu([reference], candidate))
    ours = sentence_bleu(candidate, reference)
    if ours == 0.0:
        assert theirs < 1e-70
    else:
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_by_hand():
    """c = 5, r = 6: p = 4/5, 3/4, 2/3, 1/2; their product is 1/5; exp(1 − 6/5) · (1/5)^¼."""
    found = sentence_bleu(list("abcde"), list("abcdfg"))
    assert found == pytest.approx(math.exp(-0.2) * 0.2**0.25, rel=1e-12)


def test_a_repeated_word_counts_as_often_as_the_reference_has_it():
    """Unigrams 4/6 and not 6/6; bigrams 3/5, trigrams 2/4, 4-grams 1/3: the product is 1/15."""
    assert sentence_bleu(list("aaaaaa"), list("aaaabb")) == pytest.approx((1 / 15) ** 0.25, rel=1e-12)


@pytest.mark.parametrize(
    ("candidate", "reference"),
    [("", "a b c d"), ("a b c", "a b c"), ("a b c x a b c", "a b c d a b c"), ("x y z w", "a b c d"), ("a b c d", "")],
    ids=["empty", "three words", "no 4-gram matches", "nothing matches", "nothing to match"],
)
def test_zero_without_a_match_of_every_order(candidate, reference):
    assert sentence_bleu(candidate.split(), reference.split()) == 0.0


@settings(deadline=None)
@given(few_words.filter(lambda words: len(words) >= 4))
def test_a_text_is_itself(words):
    assert sentence_bleu(words, words) == pytest.approx(1.0)


@settings(deadline=None)
@given(few_words, few_words)
def test_between_zero_and_one(candidate, reference):
    assert 0.0 <= sentence_bleu(candidate, reference) <= 1.0 + 1e-12


@settings(deadline=None)
@given(few_words.filter(lambda words: len(words) >= 5), few_words.filter(bool))
def test_only_a_short_candidate_is_punished_for_its_length(words, more):
    """Cut short: the precisions stay 1 and the brevity penalty alone is left."""
    assert sentence_bleu(words, words + more) == pytest.approx(math.exp(1 - (len(words) + len(more)) / len(words)))
