"""MEMO: only the last blocks are new, the rest is DER's; what is refused."""

from __future__ import annotations

import copy

import pytest
from tests.methods.grown_tasks import FIRST, SECOND, started, taught
from tests.models.parts.grown_models import resnet, whole

from palimpsest.contract import Phase
from palimpsest.errors import ModelError, PlanError
from palimpsest.methods import configure
from palimpsest.methods.memo import MEMO
from palimpsest.models.parts import parts_of
from palimpsest.models.scope import state_digests

PHASE = Phase("joint", ("learn", "replay"))


def test_the_last_stage_is_new_and_all_else_stays_to_the_bit(tmp_path):
    net = taught("memo", resnet(), FIRST, tmp_path / "1")
    before = copy.deepcopy(net)
    net = taught("memo", net, SECOND, tmp_path / "2")
    then = state_digests(net)
    assert {name: then[name] for name in state_digests(before)} == state_digests(before)
    (part,) = parts_of(net)
    assert {name.split(".")[0] for name in part.tensors()} == {"layer3"}
    assert any(not (tensor == before.state_dict()[name]).all() for name, tensor in part.tensors().items())


def test_all_blocks_new_is_der(tmp_path):
    """The limiting case: with nothing shared the two take the same steps."""
    one = taught("memo", resnet(), SECOND, tmp_path / "memo", last_blocks=9)
    assert state_digests(one) == state_digests(taught("der", resnet(), SECOND, tmp_path / "der"))


def test_the_first_task_is_fine_tuning(tmp_path):
    found = taught("memo", resnet(), FIRST, tmp_path / "memo")
    assert state_digests(found) == state_digests(taught("finetune", resnet(), FIRST, tmp_path / "finetune"))


def test_without_its_factor_the_auxiliary_classifier_weighs_nothing(tmp_path):
    method, net = started("memo", resnet(), SECOND, tmp_path, alpha_aux=0.0)
    terms = method.loss(net, {name: whole(examples) for name, examples in SECOND.items()}, PHASE)
    assert terms["learn_auxiliary"].weight == 0
    assert set(terms) == {"learn", "learn_auxiliary", "replay", "replay_auxiliary"}


def test_modules_that_are_not_there_and_no_blocks_are_refused():
    with pytest.raises(ModelError, match="option at: a SmallResNet has no module 'layer9'"):
        MEMO(configure("memo", {"at": ["layer9"]})).check(resnet())
    with pytest.raises(PlanError, match=r"memo\.last_blocks = 0"):
        configure("memo", {"last_blocks": 0})
