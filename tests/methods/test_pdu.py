"""Worked by hand: logits log(0.8), log(0.2): max − mean = log 4 / 2, so a label costs (log 4)²/4 = 0.4804530."""

from __future__ import annotations

import pytest
import torch
from tests.methods.spelled_out import OTHER, ROWS, batch, nats, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TextSet
from palimpsest.errors import PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.machine import Machine
from palimpsest.loop.training import Training
from palimpsest.methods.pdu import PDU, PDUConfig, squared_margin

JOINT = Phase("joint", ("forget", "retain"))
SETS = {"forget": TextSet(ROWS, 2), "retain": TextSet(OTHER, 2)}


def prepared(model, **options):
    method = PDU(PDUConfig(**options))
    method.prepare(model, SETS)
    return method


def test_loss_by_hand(skewed, two_rows):
    method = PDU(PDUConfig(epsilon=0.5, multiplier=3.0))
    method.prepare(skewed, {"retain": TextSet([], 0)})
    terms = method.loss(skewed, {"forget": two_rows, "retain": two_rows}, JOINT)
    assert terms["forget"].total.item() == pytest.approx(3 * 0.4804530, rel=1e-5)
    assert terms["retain"].weight == 3.0


def test_as_spelled_out_at_label_tokens_alone():
    """The trap: the mean over all positions, prompt and padding with them."""
    model = table(25)
    terms = prepared(model).loss(model, {"forget": batch(), "retain": batch(OTHER)}, JOINT)
    wanted = sum((max(at.logits) - sum(at.logits) / len(at.logits)) ** 2 for at in places(model, ROWS))
    assert terms["forget"].total.item() == pytest.approx(wanted, rel=1e-5)
    logits_BTV = model.table[batch().input_ids_BT]
    everywhere = (logits_BTV.amax(-1) - logits_BTV.mean(-1)).square().mean().item()
    assert abs(wanted / batch().num_scored - everywhere) > 0.05 * everywhere


def test_a_shift_of_all_logits_costs_nothing_and_flat_ones_neither():
    logits_SV = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(squared_margin(logits_SV), squared_margin(logits_SV + 5), rtol=1e-4)
    assert squared_margin(torch.full((2, 3), 9.0)).tolist() == [0.0, 0.0]


def test_the_bound_is_the_loss_before_and_the_slack():
    model = table(26)
    lost = [nats(at.p[at.right]) for at in places(model, OTHER)]
    assert prepared(model, slack=0.25).epsilon == pytest.approx(sum(lost) / len(lost) + 0.25, rel=1e-5)
    first = [nats(at.p[at.right]) for at in places(model, OTHER[:1])]
    assert prepared(model, slack=0.0, measured_rows=1).epsilon == pytest.approx(sum(first) / len(first), rel=1e-5)


def machine(folder, model, size=None, **options):
    folder.mkdir(exist_ok=True)
    training = Training(batch_size=3, side_batch_size=2, micro_batch_size=size, learning_rate=0.1, optimizer="sgd")
    return Machine(Job(prepared(model, **options), model, SETS, training, folder))


def step(made):
    """An iteration, each a whole epoch."""
    made.state.anchor = made.state.anchor.restart(made.state.anchor.ids)
    made.iterate(0.1, 10)


@pytest.mark.parametrize("size", [None, 1])
def test_the_multiplier_moves_by_the_retain_loss_of_the_whole_step(tmp_path, size):
    """A step before the weights move: R of the table at hand, however it is cut."""
    model = table(27)
    lost = [nats(at.p[at.right]) for at in places(model, OTHER)]
    made = machine(tmp_path, model, size, epsilon=0.25, eta=2.0)
    step(made)
    assert made.method.multiplier == pytest.approx(1 + 2 * (sum(lost) / len(lost) - 0.25), rel=1e-5)


def test_it_falls_to_zero_waits_and_can_stand_still(tmp_path):
    loose = machine(tmp_path / "loose", table(28), epsilon=99.0)
    step(loose)
    assert loose.method.multiplier == 0.0
    waits = machine(tmp_path / "waits", table(28), epsilon=0.0, warmup_steps=2)
    seen = []
    for _ in range(3):
        step(waits)
        seen.append(waits.method.multiplier)
    assert seen[:2] == [1.0, 1.0]
    assert seen[2] > 1.0
    still = machine(tmp_path / "still", table(28), epsilon=0.0, eta=0.0)
    step(still)
    assert still.method.multiplier == 1.0


def test_it_is_in_the_checkpoint_and_goes_back_with_the_weights(tmp_path):
    """What a checkpoint and a snapshot hold of a method: taken back, the same step gives the same multiplier."""
    made = machine(tmp_path, table(29), epsilon=0.0)
    step(made)
    kept, weights = made.own_state(), {n: p.clone() for n, p in made.job.model.state_dict().items()}
    step(made)
    gone_on = made.method.multiplier
    made.load_own(kept)
    made.job.model.load_state_dict(weights)
    assert made.method.multiplier < gone_on
    step(made)
    assert made.method.multiplier == gone_on
    assert made.method.diagnostics(0.1) == {"multiplier": gone_on, "epsilon": 0.0}


def test_a_negative_bound_is_refused():
    with pytest.raises(PlanError, match=r"pdu\.epsilon = -1: .*greater than or equal to 0"):
        methods.configure("pdu", {"epsilon": -1})
