"""ULD: its objective by hand, the search for its factor, and the length of its training."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contract.test_guards import rows

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TextSet, TokenSequence
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


def test_its_loss_is_the_sum_over_rows_however_they_are_padded_and_ordered(tiny_llama):
    """The battery of ``tests/contract`` asks it of all other losses on texts."""
    rows_of = {"forget": (9, 5, 7), "retain": (6, 8, 4)}
    sets = {
        name: TextSet(
            [
                TokenSequence(f"{name}{n}", tuple(range(3 + n, 3 + n + size)), (False, *(True,) * (size - 1)))
                for n, size in enumerate(sizes)
            ],
            pad_id=0,
        )
        for name, sizes in rows_of.items()
    }
    method = ULD(ULDConfig())
    (part,) = method.parts(tiny_llama, sets, 0)
    part.is_new = True
    attach(tiny_llama, [part])
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    method.prepare(tiny_llama, sets)
    turned = {name: examples.batch(examples.ids[::-1]) for name, examples in sets.items()}
    singly = [{name: examples.batch(examples.ids[n : n + 1]) for name, examples in sets.items()} for n in range(3)]
    phase = Phase("joint", ("forget", "retain"))
    whole = method.loss(tiny_llama, turned, phase)
    alone = [method.loss(tiny_llama, batches, phase) for batches in singly]
    for name, term in whole.items():
        assert term.total.item() == pytest.approx(sum(one[name].total.item() for one in alone), rel=1e-5)


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
