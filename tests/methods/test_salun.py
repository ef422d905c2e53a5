"""All labels of the rows used here follow token 0, so only row 0 of the table is salient."""

import math

import pytest
import torch
from torch import nn

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import PlanError
from palimpsest.loop.step import weighted_loss
from palimpsest.methods.salun import SalUn, SalUnConfig
from palimpsest.rules.rule_stack import RuleStack

PHASE = Phase("joint", ("forget", "retain"))


@pytest.fixture
def sets(one_set):
    """The retain set trains row 1 of the table too."""
    return {"forget": one_set, "retain": TextSet([TokenSequence("r", (1, 0, 1), (False, True, True))], pad_id=0)}


def take_steps(method, model, sets, count):
    """Steps within the rules of the method."""
    method.prepare(model, sets)
    rules = RuleStack(method.rules())
    rules.prepare(model, sets, sets)
    batches = {name: examples.batch(examples.ids) for name, examples in sets.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(count):
        optimizer.zero_grad()
        weighted_loss(method.loss(model, batches, PHASE), {"wrong": 2, "retain": 2}).backward()
        rules.transform(model, PHASE)
        with rules.around(model, PHASE, {}):
            method.update(model, PHASE, optimizer.step)


def test_both_terms_by_hand(skewed, two_rows):
    method = SalUn(SalUnConfig(forget_weight=2.0, retain_weight=0.5))
    terms = method.loss(skewed, {"forget": two_rows, "retain": two_rows}, PHASE)
    assert terms["wrong"].total.item() == pytest.approx(-2 * math.log(0.2) - math.log(0.8), rel=1e-6)
    assert terms["retain"].total.item() == pytest.approx(-2 * math.log(0.8) - math.log(0.2), rel=1e-6)
    assert (terms["wrong"].weight, terms["retain"].weight) == (2.0, 0.5)


def test_the_mask_is_where_the_forget_sets_gradient_is_largest(half, sets):
    half.other = nn.Parameter(torch.zeros(3))  # takes no part in the loss
    (masked,) = SalUn(SalUnConfig(share=2 / 7)).rules()
    masked.prepare(half, sets)
    assert masked.mask.mask("table").tolist() == [[True, True], [False, False]]
    assert not masked.mask.mask("other").any()
    assert (half.table.requires_grad, half.other.requires_grad) == (True, False)  # nothing of the other may move
    assert half.table.grad is None


def test_what_is_masked_stays_bit_identical_under_adam_and_weight_decay(skewed, sets):
    before = skewed.table.detach().clone()
    take_steps(SalUn(SalUnConfig(share=0.5)), skewed, sets, count=5)
    assert torch.equal(skewed.table[1], before[1])
    assert not (skewed.table[0] == before[0]).any()


def test_with_all_weights_it_is_random_labels(skewed, sets):
    moved = []
    for name in ("salun", "random_label"):
        kind, model = methods.load(name), type(skewed)([[0.8, 0.2], [0.8, 0.2]])
        method = kind(methods.configure(name, {"share": 1.0} if name == "salun" else {}))
        torch.manual_seed(0)
        take_steps(method, model, sets, count=3)
        moved.append(model.table.detach())
    assert torch.equal(*moved)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(PlanError, match="salun.share = 0: .*greater than 0"):
        methods.configure("salun", {"share": 0})
