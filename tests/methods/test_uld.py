"""ULD: its objective by hand, the search for its factor, and the length of its training."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contract.test_guards import rows

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.uld import ULD, ULDConfig, least_factor, uniform_loss
from palimpsest.models.parts import attach


def test_the_uniform_term_is_least_where_all_is_equally_likely():
    even, sure = uniform_loss(torch.tensor([[0.0, 0.0], [0.0, 2.0]])).tolist()
    assert even == pytest.approx(math.log(2))
    assert sure == pytest.approx(-(math.log(1 / (1 + math.e**2)) + math.log(math.e**2 / (1 + math.e**2))) / 2)


def test_a_fresh_assistant_has_log_v_in_both_terms(tiny_llama):
    sets = {"forget": rows("f", 2, 40, 1), "retain": rows("r", 2, 50, 2)}
    method = ULD(ULDConfig(gamma=0.5))
    parts = method.parts(tiny_llama, sets, 0)
    parts[0].is_new = True
    attach(tiny_llama, parts)
    method.prepare(tiny_llama, sets)
    batches = {name: examples.batch(examples.ids) for name, examples in sets.items()}
    terms = method.loss(tiny_llama, batches, Phase("joint", ("forget", "retain")))
    found = {name: (term.total.item() / 12, term.of, term.weight) for name, term in terms.items()}
    assert found == {
        "assistant": (pytest.approx(math.log(61), rel=1e-5), "forget", 1.0),
        "uniform_retain": (pytest.approx(math.log(61), rel=1e-5), "retain", 0.5),
    }


def test_the_least_factor_is_found_and_the_most_where_none_is_enough():
    assert least_factor(lambda beta: -beta, -1.3, 2.0) == pytest.approx(1.3, abs=2 / 64)
    assert -least_factor(lambda beta: -beta, -1.3, 2.0) <= -1.3
    assert least_factor(lambda beta: 0.0, -1.0, 2.0) == 2.0


def test_its_steps_are_made_of_whole_passes():
    (stage,) = ULD(ULDConfig(steps=300)).stages({"forget": 20, "retain": 200})
    assert (stage.anchor, stage.epochs) == ("forget", 150)


def test_a_negative_factor_is_refused():
    with pytest.raises(PlanError, match=r"uld\.beta = -1: .*greater than or equal to 0"):
        methods.configure("uld", {"beta": -1})
