"""Codes of a topic: the numbers by hand and against scipy, the guard, and Bonferroni."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chi2_contingency

from palimpsest.models.parts.code_tests import Firing, chi_square, codes_of_topic, enrichment, p_value

COUNTS = Firing(torch.tensor([18, 9, 3, 20, 0]), 20, torch.tensor([2, 10, 0, 20, 0]), 25)
ASKED = {"min_enrichment": 1.0, "significance": 0.05, "least": 5, "pseudo": 0.5}


def test_chi_square_and_p_are_scipys():
    found, p = chi_square(COUNTS), p_value(chi_square(COUNTS))
    for k in range(3):
        a, c = int(COUNTS.with_K[k]), int(COUNTS.without_K[k])
        wanted = chi2_contingency([[a, 20 - a], [c, 25 - c]], correction=False)
        assert found[k].item() == pytest.approx(wanted.statistic)
        assert p[k].item() == pytest.approx(wanted.pvalue)


def test_where_a_margin_is_empty_nothing_is_said():
    assert chi_square(COUNTS)[4].item() == 0
    assert p_value(torch.zeros(1)).item() == 1


def test_enrichment_scales_to_as_many_rows():
    """18 of 20 rows, and 2 of 25: log2(18.5 / (1.6 + 0.5))."""
    assert enrichment(COUNTS, 0.5)[0].item() == pytest.approx(3.1390, abs=1e-4)


def test_a_rare_code_is_not_tested_and_a_common_one_is_not_rich():
    found = codes_of_topic(COUNTS, **ASKED)
    assert found.tested_K.tolist() == [True, True, False, True, False]
    assert found.of_topic_K.tolist() == [True, False, False, False, False]


def test_without_a_test_enrichment_decides():
    found = codes_of_topic(COUNTS, **{**ASKED, "significance": 1.0})
    assert found.of_topic_K.tolist() == [True, False, True, False, False]


def test_bonferroni_asks_more_where_more_codes_are_tested():
    """One code with p = 0.0114: of the topic alone, and not among ten."""
    one = Firing(torch.tensor([9]), 10, torch.tensor([3]), 10)
    p = p_value(chi_square(one)).item()
    assert 0.05 / 10 < p < 0.05
    ten = Firing(torch.full((10,), 9), 10, torch.full((10,), 3), 10)
    assert codes_of_topic(one, **ASKED).of_topic_K.all()
    assert not codes_of_topic(ten, **ASKED).of_topic_K.any()
