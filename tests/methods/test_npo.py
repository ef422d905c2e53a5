"""Worked by hand, beta = 1: row a has log ratio 2·log(0.8/0.5), row b log(0.2/0.5).

2·log(1 + (0.8/0.5)²) + 2·log(1 + 0.2/0.5) = 2·log 3.56 + 2·log 1.4 = 3.212466.
"""

import math

import pytest
import torch
from tests.methods.conftest import FixedReference, TableModel, sequence
from tests.methods.spelled_out import ROWS, places, table
from tests.methods.spelled_out import batch as ragged

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import collate
from palimpsest.data.encode.controlled import ControlledBatch
from palimpsest.data.sets.controls import Controls
from palimpsest.errors import PlanError
from palimpsest.methods.npo import NPO, NPOConfig, npo_loss

FORGET = Phase("joint", ("forget",))


def test_loss_by_hand(half, reference_half, skewed, two_rows):
    method = NPO(NPOConfig(beta=1.0), reference_half)
    terms = method.loss(skewed, {"forget": two_rows}, Phase("joint", ("forget",)))
    assert terms["forget"].total.item() == pytest.approx(3.212466, rel=1e-5)
    assert terms["forget"].per == "example"


def test_as_spelled_out_with_sums_over_label_tokens_of_each_row():
    """The traps: raw logits in the place of log-probabilities, and a mean over tokens or over prompt and padding."""
    model, reference = table(40), table(41)
    ratio = [0.0] * 3
    for at, before in zip(places(model, ROWS), places(reference, ROWS), strict=True):
        ratio[at.row] += math.log(at.p[at.right] / before.p[at.right])
    wanted = sum(2 / 0.3 * math.log(1 + math.exp(0.3 * d)) for d in ratio)
    found = NPO(NPOConfig(beta=0.3), FixedReference(reference)).loss(model, {"forget": ragged()}, FORGET)["forget"]
    assert found.total.item() == pytest.approx(wanted, rel=1e-5)


def test_under_controls_the_reference_is_read_at_the_same_positions(skewed):
    """Row a by another order of losses: tokens 0, 1 with 0.8, 0.2; the half with the lower loss is 0, whose ratio is
    log(p_T(0.8) / p_T(0.2)) with p_T = 2/3 and 1/3 at T = 2: the odds 4 and 1/4 become 2 and 1/2."""
    batch = ControlledBatch(collate([sequence("a", 0, 0, 1)], pad_id=0), Controls(temperature=2.0, lowest=0.5))
    mirrored = FixedReference(TableModel([[0.2, 0.8], [0.2, 0.8]]))
    terms = NPO(NPOConfig(beta=1.0), mirrored).loss(skewed, {"forget": batch}, Phase("joint", ("forget",)))
    assert terms["forget"].total.item() == pytest.approx(2 * math.log(1 + 2), rel=1e-5)


def test_small_beta_has_the_gradient_of_ascent():
    logp_B = torch.tensor([-1.0, -5.0], requires_grad=True)
    npo_loss(logp_B, torch.tensor([-2.0, -3.0]), beta=1e-5).backward()
    assert torch.allclose(logp_B.grad, torch.ones(2), atol=1e-4)


def test_beta_zero_is_refused():
    with pytest.raises(PlanError, match=r"npo.beta = 0: .*greater than 0"):
        methods.configure("npo", {"beta": 0})
