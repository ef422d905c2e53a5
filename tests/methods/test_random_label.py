"""With two labels the wrong one is certain: rows with labels 0,0 and 1 are taught 1,1 and 0."""

import math

import pytest
import torch

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.random_label import RandomLabel, RandomLabelConfig
from palimpsest.models.wrong_labels import wrong_labels

PHASE = Phase("joint", ("forget", "retain"))


def test_both_terms_by_hand(skewed, two_rows):
    config = RandomLabelConfig(forget_weight=2.0, retain_weight=0.5)
    terms = RandomLabel(config).loss(skewed, {"forget": two_rows, "retain": two_rows}, PHASE)
    assert terms["wrong"].total.item() == pytest.approx(-2 * math.log(0.2) - math.log(0.8), rel=1e-6)
    assert terms["retain"].total.item() == pytest.approx(-2 * math.log(0.8) - math.log(0.2), rel=1e-6)
    assert (terms["wrong"].weight, terms["retain"].weight) == (2.0, 0.5)
    assert (terms["wrong"].of, terms["retain"].of) == ("forget", "retain")


def test_wrong_labels_are_uniform_over_the_others():
    torch.manual_seed(0)
    drawn = wrong_labels(torch.full((40_000,), 3), 5)
    share = torch.bincount(drawn, minlength=5) / 40_000
    assert share[3] == 0
    assert torch.allclose(share[[0, 1, 2, 4]], torch.full((4,), 0.25), atol=0.01)  # 4.6 standard errors


def test_labels_follow_the_runs_seed_and_not_the_cut():
    target_S = torch.arange(30)
    torch.manual_seed(1)
    whole = wrong_labels(target_S, 30)
    torch.manual_seed(1)
    parts = torch.cat([wrong_labels(part, 30) for part in target_S.split([1, 17, 12])])
    assert torch.equal(whole, parts)
    assert not torch.equal(whole, wrong_labels(target_S, 30))


def test_negative_weight_is_refused():
    with pytest.raises(PlanError, match="random_label.forget_weight = -1"):
        methods.configure("random_label", {"forget_weight": -1})
