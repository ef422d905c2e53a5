"""The expandable representation: its losses by hand, one task, two tasks, and a process that dies in the second."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.methods.grown_tasks import FIRST, FIRST_TEXTS, SECOND, SECOND_TEXTS, Killed, started, taught
from tests.models.parts.grown_models import bert, resnet, vit, whole

from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods import configure
from palimpsest.models.parts import detach, parts_of
from palimpsest.models.parts.backbone_growth import classes_to_learn, new_or_old_targets
from palimpsest.models.scope import state_digests

PHASE = Phase("joint", ("learn", "replay"))
TASKS = {"resnet": (resnet, FIRST, SECOND), "vit": (vit, FIRST, SECOND), "bert": (bert, FIRST_TEXTS, SECOND_TEXTS)}


def test_the_auxiliary_classifier_tells_new_classes_apart_and_old_ones_from_them():
    assert new_or_old_targets(torch.tensor([3, 0, 2, 1]), (2, 3)).tolist() == [1, 2, 0, 2]


@pytest.mark.parametrize("model", TASKS)
def test_both_losses_by_hand(model, tmp_path):
    make, _, second = TASKS[model]
    method, net = started("der", make(), second, tmp_path, alpha_aux=0.5, memory_weight=2.0)
    (part,) = parts_of(net)
    with torch.no_grad():
        for tensor in (part.columns, part.rows):
            tensor.copy_(torch.linspace(-1, 1, tensor.numel()).reshape(tensor.shape))
    batches = {name: whole(examples) for name, examples in second.items()}
    terms = method.loss(net.eval(), batches, PHASE)
    assert {name: term.weight for name, term in terms.items()} == {
        "learn": 1.0,
        "learn_auxiliary": 0.5,
        "replay": 2.0,
        "replay_auxiliary": 1.0,
    }
    for name, batch in batches.items():
        with part.telling() as told:
            logits = net(**batch.inputs()).logits
        wanted = auxiliary = 0.0
        for row, label in enumerate(batch.label_B.tolist()):
            wanted -= logits[row].log_softmax(0)[label].item()
            right = {2: 0, 3: 1}.get(label, 2)
            auxiliary -= (part.rows @ told[0][row]).log_softmax(0)[right].item()
        assert terms[name].total.item() == pytest.approx(wanted, rel=1e-4)
        assert terms[f"{name}_auxiliary"].total.item() == pytest.approx(auxiliary, rel=1e-4)


def test_the_first_task_is_fine_tuning(tmp_path):
    one, other = resnet(), resnet()
    found = taught("der", one, FIRST, tmp_path / "der")
    assert not parts_of(found)
    assert state_digests(found) == state_digests(taught("finetune", other, FIRST, tmp_path / "finetune"))


@pytest.mark.parametrize("model", TASKS)
def test_it_grows_by_a_backbone_a_task_and_what_is_old_stays_to_the_bit(model, tmp_path):
    make, first, second = TASKS[model]
    net = taught("der", make(), first, tmp_path / "1")
    before = copy.deepcopy(net)
    net = taught("der", net, second, tmp_path / "2")
    then = state_digests(net)
    assert {name: then[name] for name in state_digests(before)} == state_digests(before)
    net = taught("der", net, second, tmp_path / "3")
    assert {name: digest for name, digest in state_digests(net).items() if name in then} == then
    assert [part.config.reads for part in parts_of(net)] == [(0,), (0, 1)]
    assert all(part.rows is None and part.config.auxiliary == 0 for part in parts_of(net))
    detach(net, parts_of(net)[1:])
    assert state_digests(net) == then  # the newest dropped: the model before the task


def test_the_second_task_is_learned_beside_the_first(tmp_path):
    before = taught("der", resnet(), FIRST, tmp_path / "1", steps=6)
    after = taught("der", copy.deepcopy(before), SECOND, tmp_path / "2", steps=10)
    with torch.no_grad():
        gain = {
            name: (whole(rows).predict(after).logp_S - whole(rows).predict(before).logp_S).mean().item()
            for name, rows in SECOND.items()
        }
    assert gain["learn"] > 0.5
    assert gain["replay"] > -0.5


def test_a_run_that_died_goes_on_to_the_same_bits(tmp_path):
    net = taught("der", resnet(), FIRST, tmp_path / "first")
    whole_run = taught("der", copy.deepcopy(net), SECOND, tmp_path / "whole", steps=5)
    with pytest.raises(Killed):
        taught("der", copy.deepcopy(net), SECOND, tmp_path / "died", steps=5, dies_after=3)
    again = taught("der", copy.deepcopy(net), SECOND, tmp_path / "died", steps=5)
    assert state_digests(again) == state_digests(whole_run)


def test_where_no_class_is_new_those_that_are_learned_are_told_from_the_rest():
    assert classes_to_learn(SECOND) == (2, 3)
    assert classes_to_learn({"learn": FIRST["learn"], "replay": FIRST["learn"]}) == (0, 1)
    assert classes_to_learn(SECOND_TEXTS) == (2, 3)


def test_the_first_step_reaches_every_tensor_of_the_new_backbone(tmp_path):
    """Else a run that looks for its rate would see nothing move but the head."""
    method, net = started("der", resnet(), SECOND, tmp_path)
    terms = method.loss(net.train(), {name: whole(examples) for name, examples in SECOND.items()}, PHASE)
    sum(term.weight * term.total for term in terms.values()).backward()
    (part,) = parts_of(net)
    assert all(parameter.grad.any() for parameter in part.parameters())


def test_a_negative_factor_is_refused():
    with pytest.raises(PlanError, match=r"der\.alpha_aux = -1"):
        configure("der", {"alpha_aux": -1})
