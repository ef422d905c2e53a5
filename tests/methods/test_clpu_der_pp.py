"""Worked by hand: logits log(0.8, 0.2) of the model, log(0.5, 0.5) of the one before, log(0.2, 0.8) of the side net.

Mean squared logit distances: to the one before 0.530246 (log(1.6)² and log(0.4)²), to the side network log(4)².
"""

import copy
import math

import pytest
import torch

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import ModelError, PlanError
from palimpsest.loop.step import weighted_loss
from palimpsest.methods.clpu_der_pp import CLPUDERpp, CLPUDERppConfig

NLL = -2 * math.log(0.8) - math.log(0.2)
COUNTS = {"learn": 3, "learn_logits": 3, "retain": 3, "retain_logits": 3}


def loss_of(method, model, rows, *names):
    return method.loss(model, dict.fromkeys(names, rows), Phase("joint", names))


def test_learning_for_good_is_der_pp(half, reference_half, skewed, two_rows, one_set):
    method = CLPUDERpp(CLPUDERppConfig(alpha=0.25, beta=2.0), reference_half)
    method.prepare(skewed, {"learn": one_set, "retain": one_set})
    terms = loss_of(method, skewed, two_rows, "learn", "retain")
    assert weighted_loss(terms, COUNTS).item() == pytest.approx(NLL / 3 + 0.25 * 0.530246 + 2 * NLL / 3, rel=1e-5)


def test_a_side_network_learns_by_its_labels_alone(skewed, two_rows, one_set):
    method = CLPUDERpp(CLPUDERppConfig(alpha=0.25, beta=2.0))
    method.prepare(skewed, {"learn": one_set})
    terms = loss_of(method, skewed, two_rows, "learn")
    assert weighted_loss(terms, COUNTS).item() == pytest.approx(NLL / 3, rel=1e-5)


def test_consolidating_adds_the_side_networks_logits(half, reference_half, skewed, two_rows, one_set):
    method = CLPUDERpp(CLPUDERppConfig(alpha=0.25, beta=2.0), reference_half)
    method.prepare(skewed, {"learn": one_set, "retain": one_set})
    method.side = copy.deepcopy(skewed)
    with torch.no_grad():
        method.side.table.copy_(skewed.table.flip(1))
    terms = loss_of(method, skewed, two_rows, "learn", "retain")
    by_hand = 2 * 2 * NLL / 3 + 0.25 * (math.log(4) ** 2 + 0.530246)
    assert weighted_loss(terms, COUNTS).item() == pytest.approx(by_hand, rel=1e-5)


def test_consolidated_it_answers_as_the_side_network(tiny_llama, tmp_path):
    """The side network comes from its folder, is left alone, and with alpha alone the model ends at its logits."""
    side = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for parameter in side.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    side.save_pretrained(tmp_path / "side")
    task = TextSet([TokenSequence("a", (3, 4, 5), (False, True, True))], pad_id=0)
    batch = task.batch(["a"])
    method = CLPUDERpp(CLPUDERppConfig(alpha=1.0, beta=0.0, side=str(tmp_path / "side")))
    model = method.prepare(tiny_llama, {"learn": task})
    with torch.no_grad():
        aim_SV = batch.predict(side).logits_SV
        assert torch.allclose(batch.predict(method.side).logits_SV, aim_SV, atol=1e-6)
        before = (batch.predict(model).logits_SV - aim_SV).norm()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(30):
        weighted_loss(loss_of(method, model, batch, "learn"), {"learn": 2, "learn_logits": 2}).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        assert (batch.predict(model).logits_SV - aim_SV).norm() < 0.1 * before
        assert torch.equal(batch.predict(method.side).logits_SV, batch.predict(side).logits_SV)


def test_it_says_that_it_isolates_and_does_not_say_that_it_unlearns():
    assert CLPUDERpp.isolates
    assert CLPUDERpp.kinds == ("learn",)
    assert [name for name in methods.names() if methods.load(name).isolates] == ["clpu_der_pp"]


def test_a_side_network_that_is_gone_is_refused(skewed, tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        CLPUDERpp(CLPUDERppConfig(side=str(tmp_path / "gone"))).prepare(skewed, {})


def test_negative_factor_is_refused():
    with pytest.raises(PlanError, match="clpu_der_pp.alpha = -1"):
        methods.configure("clpu_der_pp", {"alpha": -1})


def test_a_side_network_with_other_outputs_is_refused(tiny_llama, tmp_path):
    other = copy.deepcopy(tiny_llama)
    other.resize_token_embeddings(tiny_llama.config.vocab_size + 3)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(PlanError, match=r"side .*other knows 64 tokens or classes and the model 61"):
        CLPUDERpp(CLPUDERppConfig(side=str(tmp_path / "other"))).prepare(tiny_llama, {})
