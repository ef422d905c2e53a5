"""The guard as a method: what it says, where it reads, and that it leaves every weight alone."""

from __future__ import annotations

import pytest
from tests.contract.test_guards import rows

from palimpsest import methods
from palimpsest.data.encode.batch import TextSet, TokenSequence, collate
from palimpsest.errors import PlanError
from palimpsest.methods.guard import Guard, GuardConfig, refusal_tokens


def test_the_refusal_is_what_its_row_answers():
    row = TokenSequence("no", (5, 6, 7, 2), (False, True, True, True))
    assert refusal_tokens(collate([row], 0)) == (6, 7, 2)


def test_its_part_reads_a_block_and_never_fires_before_half_a_question(tiny_llama):
    sets = {"forget": rows("f", 3, 40, 1), "retain": rows("r", 3, 50, 2)}
    sets["refusal"] = TextSet([TokenSequence("no", (5, 55, 2), (False, True, True))], 0)
    (part,) = Guard(GuardConfig()).parts(tiny_llama, sets, 0)
    assert (part.config.at, part.config.least, part.config.refusal) == ("model.layers.1", 2, (55, 2))
    (named,) = Guard(GuardConfig(at="model.layers.0")).parts(tiny_llama, sets, 0)
    assert named.config.at == "model.layers.0"


def test_a_share_above_one_is_refused():
    with pytest.raises(PlanError, match=r"guard\.share = 1.5: .*less than 1"):
        methods.configure("guard", {"share": 1.5})
