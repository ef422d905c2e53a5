"""Worked by hand with tables: a refusal token of probability 0.2 costs log 5, a retain token of 0.8 costs log 1.25."""

from __future__ import annotations

import math

import pytest
from tests.methods.conftest import sequence

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import collate
from palimpsest.errors import PlanError
from palimpsest.methods.idk import IDK, IDKConfig

JOINT = Phase("joint", ("forget", "refusal", "retain"))


def batches(**rows: tuple[int, ...]):
    return {name: collate([sequence(name, *tokens)], pad_id=0) for name, tokens in rows.items()}


def test_loss_by_hand(skewed):
    given = batches(forget=(0, 0, 0), refusal=(0, 1, 1), retain=(1, 0))
    terms = IDK(IDKConfig(gamma=2.0, alpha=3.0)).loss(skewed, given, JOINT)
    assert terms["refusal"].total.item() == pytest.approx(2 * math.log(5), rel=1e-5)
    assert terms["retain"].total.item() == pytest.approx(math.log(1.25), rel=1e-5)
    assert {name: (term.of, term.weight) for name, term in terms.items()} == {
        "refusal": ("refusal", 2.0),
        "retain": ("retain", 3.0),
    }


def test_the_answers_to_forget_are_in_no_term(skewed):
    """Whatever a forget row holds, the gradient is the same: only its turn counts."""
    gradients = []
    for forget in ((0, 0, 0), (1, 1, 0)):
        skewed.table.grad = None
        terms = IDK(IDKConfig()).loss(skewed, batches(forget=forget, refusal=(0, 1), retain=(1, 0)), JOINT)
        sum(term.total for term in terms.values()).backward()
        gradients.append(skewed.table.grad.clone())
    assert gradients[0].equal(gradients[1])


def test_without_retain_it_is_the_refusals_alone(skewed):
    assert set(IDK(IDKConfig()).loss(skewed, batches(forget=(0, 0), refusal=(0, 1)), JOINT)) == {"refusal"}


def test_a_negative_factor_is_refused():
    with pytest.raises(PlanError, match=r"idk\.gamma = -1: .*greater than or equal to 0"):
        methods.configure("idk", {"gamma": -1})
