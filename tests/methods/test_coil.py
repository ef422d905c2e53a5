"""COIL: the plan and both ways by brute force, its limits, one task, and what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from tests.methods.grown_tasks import FIRST, SECOND, SECOND_TEXTS, Killed, started, taught
from tests.models.parts.grown_models import bert, resnet, whole

from palimpsest.contract import Phase
from palimpsest.data.encode.batch import Predictions
from palimpsest.errors import PlanError
from palimpsest.methods import configure
from palimpsest.methods.coil import COIL, class_plan
from palimpsest.models.families import of_model
from palimpsest.models.parts.backbone_growth import class_feature_means, head_of
from palimpsest.models.scope import state_digests

PHASE = Phase("joint", ("learn", "replay"))


def softmax(values):
    shifted = [math.exp(value - max(values)) for value in values]
    return [one / sum(shifted) for one in shifted]


def widened(model):
    """A head that got its last two rows for this run: they are zero."""
    with torch.no_grad():
        head_of(model).weight[2:] = 0
        head_of(model).bias[2:] = 0
    return model


def plan_by_hand(old, new, reg):
    """Rows and columns brought to their sums in turn, a thousand times."""
    cost = [[math.dist(unit(o), unit(n)) for n in new] for o in old]
    plan = [[math.exp(-c / reg) for c in row] for row in cost]
    for _ in range(1000):
        plan = [[p / (len(old) * sum(row)) for p in row] for row in plan]
        sums = [sum(row[n] for row in plan) for n in range(len(new))]
        plan = [[row[n] / (len(new) * sums[n]) for n in range(len(new))] for row in plan]
    return plan


def unit(vector):
    length = math.hypot(*vector)
    return [value / length for value in vector]


def test_the_plan_by_brute_force():
    old, new = [[1.0, 0.2, 0.0], [0.0, 3.0, 1.0]], [[0.5, 0.1, 0.4], [1.0, 2.0, 0.0], [0.0, 0.1, 2.0]]
    found = class_plan(torch.tensor(old), torch.tensor(new), 0.464)
    assert torch.allclose(found, torch.tensor(plan_by_hand(old, new, 0.464), dtype=torch.float64), atol=1e-6)


def test_means_of_features_by_hand():
    model = resnet()
    means = class_feature_means(model, SECOND, rows=4)
    with torch.no_grad():
        for name, label in (("learn", 2), ("replay", 1)):
            ids = [i for i, c in zip(SECOND[name].ids, SECOND[name].label_N.tolist(), strict=True) if c == label]
            rows = [of_model(model).features(model, SECOND[name].batch([i])) for i in ids]
            assert torch.allclose(means[label].float(), torch.cat(rows).mean(0), atol=1e-5)


@pytest.mark.parametrize(("make", "sets"), [(resnet, SECOND), (bert, SECOND_TEXTS)], ids=["resnet", "bert"])
def test_both_ways_by_brute_force(make, sets, tmp_path):
    before = widened(make())
    means = {c: mean.tolist() for c, mean in class_feature_means(before, sets).items()}
    plan = plan_by_hand([means[0], means[1]], [means[2], means[3]], 0.464)
    old = head_of(before).weight.detach().clone()
    method, net = started("coil", before, sets, tmp_path, memory_weight=0.5, lambda_back=2.0)
    head = head_of(net)
    for number, new in enumerate((2, 3)):
        share = [plan[o][number] / (plan[0][number] + plan[1][number]) for o in (0, 1)]
        assert torch.allclose(head.weight[new], 1.5 * (share[0] * old[0] + share[1] * old[1]), atol=1e-4)
    assert torch.equal(head.weight[:2], old[:2])
    with torch.no_grad():
        head.weight.add_(torch.linspace(-1, 1, head.weight.numel()).reshape(head.weight.shape))
    net.eval()
    batches = {name: whole(examples) for name, examples in sets.items()}
    reference = {name: torch.randn(len(batch), 4) for name, batch in batches.items()}
    by_first_id = {batch.ids[0]: reference[name] for name, batch in batches.items()}
    method.reference = SimpleNamespace(
        predict=lambda _model, batch: Predictions(by_first_id[batch.ids[0]], batch.target_S, batch.owner_S, len(batch))
    )
    terms = method.loss(net, batches, PHASE)
    back = [[0.0] * head.in_features for _ in (0, 1)]
    for o in (0, 1):
        for d in range(head.in_features):
            rows = [head.weight[2 + n, d].item() * plan[o][n] / sum(plan[o]) for n in (0, 1)]
            back[o][d] = 1.5 * sum(rows)
    for name, batch in batches.items():
        kept = carried = 0.0
        with torch.no_grad():
            logits = batch.predict(net).logits_SV
            entering = of_model(net).features(net, batch)
        for row in range(len(batch)):
            was = softmax([reference[name][row, c].item() / 2 for c in (0, 1)])
            now = softmax([logits[row, c].item() / 2 for c in (0, 1)])
            carried_logits = [sum(f * v for f, v in zip(entering[row].tolist(), back[o], strict=True)) for o in (0, 1)]
            said = softmax([logit / 2 for logit in carried_logits])
            kept += sum(p * math.log(p / q) for p, q in zip(was, now, strict=True))
            carried += sum(p * math.log(p / q) for p, q in zip(was, said, strict=True))
        assert terms[f"{name}_kd"].total.item() == pytest.approx(kept, rel=1e-3, abs=1e-5)
        assert terms[f"{name}_back"].total.item() == pytest.approx(carried, rel=1e-3, abs=1e-4)
    assert (terms["replay_back"].weight, terms["learn_back"].weight, terms["replay_kd"].weight) == (1.0, 2.0, 0.5)


def test_with_much_entropy_every_new_class_begins_as_the_mean_of_the_old(tmp_path):
    before = widened(resnet())
    mean = head_of(before).weight[:2].mean(0).detach().clone()
    _, net = started("coil", before, SECOND, tmp_path, sinkhorn_reg=1e6, calibration=1.0)
    assert torch.allclose(head_of(net).weight[2], mean, atol=1e-5)
    assert torch.allclose(head_of(net).weight[3], mean, atol=1e-5)


def test_rows_that_somebody_taught_are_left_alone(tmp_path):
    before = resnet()
    wanted = head_of(before).weight.detach().clone()
    _, net = started("coil", before, SECOND, tmp_path)
    assert torch.equal(head_of(net).weight, wanted)


def test_the_first_task_is_fine_tuning(tmp_path):
    found = taught("coil", resnet(), FIRST, tmp_path / "coil")
    assert state_digests(found) == state_digests(taught("finetune", resnet(), FIRST, tmp_path / "finetune"))


def test_a_run_that_died_goes_on_to_the_same_bits(tmp_path):
    wanted = taught("coil", widened(bert()), SECOND_TEXTS, tmp_path / "whole", steps=4)
    with pytest.raises(Killed):
        taught("coil", widened(bert()), SECOND_TEXTS, tmp_path / "died", steps=4, dies_after=3)
    assert state_digests(taught("coil", widened(bert()), SECOND_TEXTS, tmp_path / "died", steps=4)) == (
        state_digests(wanted)
    )


def test_an_adapter_on_the_head_and_no_entropy_are_refused():
    model = resnet()
    model.peft_config = {}
    with pytest.raises(PlanError, match="an adapter lies on it; accepted: scope.kind = all"):
        COIL(configure("coil", {})).prepare(model, SECOND)
    with pytest.raises(PlanError, match=r"coil\.sinkhorn_reg = 0"):
        configure("coil", {"sinkhorn_reg": 0})
