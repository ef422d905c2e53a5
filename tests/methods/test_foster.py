"""FOSTER: both losses by brute force, one plain model in the end, and what is refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.methods.grown_tasks import FIRST, FIRST_TEXTS, SECOND, SECOND_TEXTS, Killed, started, taught
from tests.models.parts.grown_models import bert, resnet, whole

from palimpsest.contract import Phase
from palimpsest.errors import ModelError, PlanError
from palimpsest.methods import configure
from palimpsest.methods.foster import FOSTER, aligned_loss, balance, balanced_distillation
from palimpsest.models.parts import attach, off, parts_of
from palimpsest.models.parts.backbone_growth import names_before_head, new_backbone
from palimpsest.models.scope import state_digests

SETS = ("learn", "replay")


def softmax(values):
    shifted = [math.exp(value - max(values)) for value in values]
    return [one / sum(shifted) for one in shifted]


def test_balance_by_hand_and_its_limits():
    """n = 1 and 3, beta 1/2: effective numbers 1 and 7/4, so 11/7 = 1 + 4/7 is brought to 2."""
    assert balance(torch.tensor([1.0, 3.0]), 0.5).tolist() == pytest.approx([14 / 11, 8 / 11])
    assert balance(torch.tensor([1.0, 500.0, 0.0]), 0.0).tolist() == [1, 1, 1]
    near_one = balance(torch.tensor([1.0, 3.0]), 0.999999)  # by the number of rows
    assert (near_one[0] / near_one[1]).item() == pytest.approx(3, rel=1e-3)


def test_compressing_by_brute_force():
    torch.manual_seed(0)
    teacher, student, weight = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0.5, 1.0, 2.0, 0.5])
    wanted = 0.0
    for row in range(3):
        soft = softmax([value / 2 for value in teacher[row].tolist()])
        soft = [one * factor for one, factor in zip(soft, weight.tolist(), strict=True)]
        its = softmax([value / 2 for value in student[row].tolist()])
        wanted -= sum(one / sum(soft) * math.log(p) for one, p in zip(soft, its, strict=True))
    assert balanced_distillation(teacher, student, weight, 2.0).item() == pytest.approx(wanted, rel=1e-5)


def test_a_balanced_student_that_says_the_same_has_no_gradient():
    teacher = torch.randn(3, 4)
    student = teacher.clone().requires_grad_(True)
    balanced_distillation(teacher, student, torch.ones(4), 2.0).backward()
    assert student.grad.abs().max() < 1e-6


def test_aligned_logits_by_hand():
    """z / b = (1, 1): log 2; without balance it is the usual cross-entropy."""
    assert aligned_loss(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), torch.tensor([2.0, 0.5])).item() == (
        pytest.approx(math.log(2))
    )


@pytest.mark.parametrize(("make", "sets"), [(resnet, SECOND), (bert, SECOND_TEXTS)], ids=["resnet", "bert"])
def test_both_stages_by_brute_force(make, sets, tmp_path):
    method, net = started("foster", make(), sets, tmp_path, memory_weight=0.5, lambda_okd=2.0)
    boost, student = parts_of(net)
    with torch.no_grad():
        for tensor in (boost.columns, boost.rows, student.columns):
            tensor.add_(torch.linspace(-1, 1, tensor.numel()).reshape(tensor.shape))
    net.eval()
    batches = {name: whole(examples) for name, examples in sets.items()}
    # a row of each old class, and 6 rows to learn beside 2 with a factor of 1/2: each counts for 1.5
    weight = balance(torch.tensor([1.5, 1.5, 3.0, 3.0]), 0.96)
    terms = method.loss(net, batches, Phase("boost", SETS))
    pressed = method.loss(net, batches, Phase("compress", SETS))
    for name, batch in batches.items():
        with torch.no_grad(), off(net, [student]), boost.telling() as told:
            both = net(**batch.inputs()).logits
        with torch.no_grad(), off(net):
            old = net(**batch.inputs()).logits
        with torch.no_grad():
            small = net(**batch.inputs()).logits
        fit = new = kept = 0.0
        for row, label in enumerate(batch.label_B.tolist()):
            fit -= math.log(softmax((both[row] / weight).tolist())[label])
            new -= math.log(softmax((boost.rows @ told[0][row]).tolist())[label])
            was, now = (softmax([one[row, c].item() / 2 for c in (0, 1)]) for one in (old, both))
            kept += sum(p * math.log(p / q) for p, q in zip(was, now, strict=True))
        factor = 1.0 if name == "learn" else 0.5
        found = {suffix: terms[name + suffix] for suffix in ("", "_new", "_old")}
        assert [one.total.item() for one in found.values()] == pytest.approx([fit, new, kept], rel=1e-3, abs=1e-5)
        assert [one.weight for one in found.values()] == [factor, factor, 2 * factor]
        wanted = balanced_distillation(both, small, balance(torch.tensor([1.5, 1.5, 3.0, 3.0]), 0.97), 2.0)
        assert pressed[name].total.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_each_stage_moves_its_own_backbone_alone(tmp_path):
    method, net = started("foster", resnet(), SECOND, tmp_path)
    method.planned_epochs = 10.0
    boost, compress = method.stages({"learn": 6, "replay": 2})
    assert (boost.name, boost.epochs, boost.moves) == ("boost", 5.5, (r"palimpsest_parts\.0\.",))
    assert (compress.name, compress.moves) == ("compress", (r"palimpsest_parts\.1\.",))
    assert boost.epochs + compress.epochs == pytest.approx(10)
    assert not any(p.requires_grad for n, p in net.named_parameters() if not n.startswith("palimpsest_parts"))


def test_what_is_left_is_one_plain_model_that_learned_both(tmp_path):
    before = taught("foster", resnet(), FIRST, tmp_path / "1", steps=6)
    assert state_digests(before) == state_digests(taught("finetune", resnet(), FIRST, tmp_path / "f", steps=6))
    shapes = {name: tensor.shape for name, tensor in before.state_dict().items()}
    after = taught("foster", copy.deepcopy(before), SECOND, tmp_path / "2", steps=None, rate=4e-2)
    assert not parts_of(after)
    assert {name: tensor.shape for name, tensor in after.state_dict().items()} == shapes
    rows = whole(SECOND["learn"])
    with torch.no_grad():
        assert rows.predict(after).logp_S.mean() > rows.predict(before).logp_S.mean() + 0.1


def test_a_run_that_died_while_it_compressed_goes_on_to_the_same_bits(tmp_path):
    wanted = taught("foster", bert(), SECOND_TEXTS, tmp_path / "whole", steps=None)
    with pytest.raises(Killed):
        taught("foster", bert(), SECOND_TEXTS, tmp_path / "died", steps=None, dies_after=5)
    again = taught("foster", bert(), SECOND_TEXTS, tmp_path / "died", steps=None)
    assert state_digests(again) == state_digests(wanted)


def test_a_model_that_has_grown_and_a_beta_of_one_are_refused():
    net = resnet()
    attach(net, [new_backbone(net, names_before_head(net))])
    with pytest.raises(ModelError, match=r"foster begins with one backbone.*accepted: a model without them"):
        FOSTER(configure("foster", {})).check(net)
    with pytest.raises(PlanError, match=r"foster\.beta_boost = 1"):
        configure("foster", {"beta_boost": 1.0})


def test_texts_begin_with_fine_tuning(tmp_path):
    one = taught("foster", bert(), FIRST_TEXTS, tmp_path / "a", steps=2)
    assert state_digests(one) == state_digests(taught("finetune", bert(), FIRST_TEXTS, tmp_path / "b", steps=2))
