"""Controls: by hand, example by example in a plain loop, and what a batch under them promises."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.data.test_image import some
from tests.models.test_resnet import tiny

from palimpsest.data.encode.batch import Batch, ExampleSet, Predictions, TextSet, TokenSequence, predict_together
from palimpsest.data.encode.controlled import ControlledSet, as_shown, controlled, kept_counts, lowest_positions
from palimpsest.data.sets.controls import Controls, checked_controls
from palimpsest.errors import PlanError

HALF, QUARTER = math.log(2), math.log(4)


def said_of(probabilities: list[float], owners: list[int]) -> Predictions:
    """Two classes; class 0 is right everywhere and has these probabilities."""
    p_S = torch.tensor(probabilities, dtype=torch.float64)
    logits_SV = torch.stack([p_S, 1 - p_S], 1).log().float().requires_grad_()
    return Predictions(logits_SV, torch.zeros(len(owners), dtype=torch.long), torch.tensor(owners), max(owners) + 1)


def test_temperature_by_hand():
    """p = 0.8 at T = 2: the odds 4 become their root, 2, so p = 2/3."""
    shown, _ = controlled(said_of([0.8], [0]), Controls(temperature=2.0))
    assert shown.logp_S.item() == pytest.approx(math.log(2 / 3), abs=1e-6)


def test_lowest_by_hand():
    """Of 1/2, 1/4, 1/8, 1/16 the half with the lowest loss is the first two; of one position the one."""
    shown, pick = controlled(said_of([1 / 16, 1 / 2, 1 / 8, 1 / 4, 0.9], [0, 0, 0, 0, 1]), Controls(lowest=0.5))
    assert pick.position_K is not None
    assert pick.position_K.tolist() == [1, 3, 4]
    assert shown.logp_B.tolist() == pytest.approx([-HALF - QUARTER, math.log(0.9)], abs=1e-6)
    assert shown.count_B.tolist() == [2, 1]


def test_cap_by_hand():
    """Row 0 has 2 log 2 nats and row 1 log 2: under a cap of 1.3 the first stands still, the second moves as ever."""
    free, capped = said_of([0.5, 0.5, 0.5], [0, 0, 1]), said_of([0.5, 0.5, 0.5], [0, 0, 1])
    free.logp_S.sum().backward()
    shown, _ = controlled(capped, Controls(cap=1.3))
    assert torch.equal(shown.logp_B, free.logp_B)  # its value is logged as it is
    shown.logp_S.sum().backward()
    assert capped.logits_SV.grad is not None
    assert torch.equal(capped.logits_SV.grad[:2], torch.zeros(2, 2))
    assert torch.equal(capped.logits_SV.grad[2], free.logits_SV.grad[2])


def test_at_the_cap_is_capped():
    said = said_of([0.25], [0])
    nats = -said.logp_B.item()
    stopped = [controlled(said, Controls(cap=cap))[1].stopped_B for cap in (nats, nats + 1e-4)]
    assert [bool(one) for one in stopped] == [True, False]


def test_cap_has_the_gradient_of_the_risk_cap_up_to_its_mean():
    """v1: mean over the active of (delta − n_i); here the mean over all of −n_i: active/all times its gradient."""
    ours, theirs = said_of([0.5, 0.3, 0.01], [0, 1, 2]), said_of([0.5, 0.3, 0.01], [0, 1, 2])
    controlled(ours, Controls(cap=2.0))[0].logp_B.mean().backward()
    n_B = -theirs.logp_B
    active_B = n_B < 2.0
    assert active_B.tolist() == [True, True, False]
    (2.0 - n_B[active_B]).mean().backward()
    assert torch.allclose(ours.logits_SV.grad, theirs.logits_SV.grad * 2 / 3, atol=1e-7)


def test_the_choice_is_made_at_temperature_one_and_over_all_positions():
    """A cap of 1.3 nats stops the row of 2 log 2 although the half that is shown at T = 100 has less."""
    _, pick = controlled(said_of([0.5, 0.5], [0, 0]), Controls(temperature=100.0, lowest=0.5, cap=1.3))
    assert pick.stopped_B.tolist() == [True]


def test_the_defaults_show_the_very_predictions():
    said = said_of([0.5], [0])
    assert controlled(said, Controls())[0] is said
    examples = some()
    assert as_shown(examples, None) is examples


rows = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@given(rows, st.floats(0.01, 1.0), st.integers(0, 2**32))
def test_lowest_equals_a_loop_over_examples(lengths: list[int], share: float, seed: int) -> None:
    random = Random(seed)
    loss = [[random.choice([0.5, 1.0, 2.0, random.random()]) for _ in range(n)] for n in lengths]
    flat = torch.tensor([value for row in loss for value in row])
    owner = torch.tensor([n for n, row in enumerate(loss) for _ in row])
    expected, start = [], 0
    for row in loss:
        count = max(1, math.ceil(share * len(row) - 1e-9))
        expected += sorted(start + t for t in sorted(range(len(row)), key=row.__getitem__)[:count])
        start += len(row)
    assert lowest_positions(flat, owner, len(loss), share).tolist() == expected
    assert int(kept_counts(torch.tensor(lengths), share).sum()) == len(expected)


class Bigram(torch.nn.Module):
    """Logits depend on the last token alone."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(3 * torch.randn(11, 11, generator=torch.Generator().manual_seed(seed)))

    def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool) -> Any:
        return type("Output", (), {"logits": self.table[input_ids]})


def texts() -> TextSet:
    """Three rows of 3, 5 and 8 label tokens."""
    random = Random(1)
    words = {n: tuple(random.randrange(11) for _ in range(n + 1)) for n in (3, 5, 8)}
    return TextSet([TokenSequence(str(n), row, (False,) + (True,) * n) for n, row in words.items()], pad_id=0)


CONTROLLED = Controls(temperature=2.0, lowest=0.6, cap=13.0)


def test_a_controlled_batch_is_a_loop_over_its_rows():
    model, examples = Bigram(), texts()
    shown = ControlledSet(examples, CONTROLLED).batch(examples.ids).predict(model)
    (-shown.logp_S.sum()).backward()
    found = model.table.grad.clone()
    model.table.grad = None
    total, stopped = torch.zeros(()), 0
    for example_id in examples.ids:
        tokens = torch.tensor(examples[example_id].tokens)
        logits = model.table[tokens[:-1]]
        loss = F.cross_entropy(logits, tokens[1:], reduction="none")
        keep = loss.argsort(stable=True)[: math.ceil(0.6 * len(loss))]
        if loss.sum() >= 13.0:
            stopped += 1
            continue
        total = total + F.cross_entropy(logits[keep] / 2, tokens[1:][keep], reduction="sum")
    total.backward()
    assert 0 < stopped < 3
    assert torch.allclose(found, model.table.grad, atol=1e-5)


def test_a_batch_counts_what_it_will_keep_before_it_is_asked():
    batch = ControlledSet(texts(), CONTROLLED).batch(["3", "5", "8"])
    assert batch.num_scored == 2 + 3 + 5
    assert len(batch.predict(Bigram()).logp_S) == batch.num_scored
    assert batch.target_S.shape == batch.owner_S.shape == (batch.num_scored,)


def test_cut_into_micro_batches_it_shows_the_same():
    model, examples = Bigram(), ControlledSet(texts(), CONTROLLED)
    whole = examples.batch(examples.ids).predict(model)
    parts = [examples.batch([i]).predict(model) for i in examples.ids]
    assert torch.allclose(whole.logp_S, torch.cat([part.logp_S for part in parts]))
    assert sum(examples.batch([i]).num_scored for i in examples.ids) == examples.batch(examples.ids).num_scored


def test_the_first_that_is_asked_picks_and_a_reference_never_does():
    batch = ControlledSet(texts(), CONTROLLED).batch(["5", "8"])
    other = batch.bare.predict(Bigram(1))
    with pytest.raises(TypeError, match="the model that learns must be asked before its reference"):
        batch.seen(other, picks=False)
    own = batch.predict(Bigram())
    recalled = batch.seen(other, picks=False)
    assert torch.equal(recalled.target_S, own.target_S)
    assert torch.equal(recalled.owner_S, own.owner_S)
    position_K = batch.pick.position_K
    assert torch.allclose(recalled.logits_SV, other.logits_SV[position_K] / 2)
    assert position_K.tolist() != controlled(other, CONTROLLED)[1].position_K.tolist()
    assert batch.to(torch.device("cpu")).pick is None  # each pass of a loss picks anew


def test_hidden_states_are_read_at_the_picked_positions():
    batch = ControlledSet(texts(), CONTROLLED).batch(["3", "5"])
    values_BTD = torch.randn(2, 6, 4, requires_grad=True)
    with pytest.raises(TypeError, match="before hidden states are read"):
        batch.gather(values_BTD)
    batch.predict(Bigram())
    assert torch.equal(batch.gather(values_BTD), batch.bare.gather(values_BTD)[batch.pick.position_K])


def test_it_is_what_methods_are_given():
    examples = ControlledSet(some(), Controls(temperature=2.0))
    assert isinstance(examples, ExampleSet)
    assert isinstance(examples.batch(["i1"]), Batch)
    assert examples.subset(["i1"]).plain().ids == ("i1",)
    assert len(examples.subset(["i1"])) == len(examples.batch(["i1"])) == 1


def test_images_go_through_together_and_each_set_keeps_its_own_controls():
    model, examples = tiny().train(), some()
    learn, retain = examples.batch(["i0", "i1", "i2"]), examples.batch(["i3", "i4", "i5"])
    with torch.no_grad():
        plain = predict_together(model, {"learn": learn, "retain": retain})
        hot = ControlledSet(examples, Controls(temperature=4.0)).batch(learn.ids)
        found = predict_together(model, {"learn": hot, "retain": retain})
        swapped = predict_together(model, {"retain": retain, "learn": hot})
    assert torch.allclose(found["learn"].logits_SV, plain["learn"].logits_SV / 4, atol=1e-6)
    assert torch.equal(found["retain"].logits_SV, plain["retain"].logits_SV)
    assert torch.allclose(swapped["learn"].logits_SV, found["learn"].logits_SV, atol=1e-5)
    both = hot.predict_with(model.eval(), [retain])
    assert torch.allclose(both[0].logits_SV, learn.predict(model).logits_SV / 4, atol=1e-6)


DRAWN = {"forget": True, "retain": True, "turns": False}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"controls is \[\]; accepted: a mapping of sets"),
        ({"forget": 2}, r"controls\.forget is 2; accepted: a mapping of temperature, lowest, cap"),
        (
            {"general": {"cap": 1}},
            r"controls\.general: this run draws from no set .*accepted: forget, retain$",
        ),
        ({"turns": {"cap": 1}}, r"controls\.turns: this run looks at no row of that set; accepted: forget, retain"),
        ({"forget": {"temperature": 0}}, r"controls\.forget\.temperature = 0: .*greater than 0"),
        ({"forget": {"temperature": float("inf")}}, r"controls\.forget\.temperature = inf: "),
        ({"forget": {"lowest": 0}}, r"controls\.forget\.lowest = 0: .*greater than 0"),
        ({"forget": {"lowest": 1.5}}, r"controls\.forget\.lowest = 1\.5: .*less than or equal to 1"),
        ({"retain": {"cap": -1}}, r"controls\.retain\.cap = -1: .*greater than 0"),
        ({"retain": {"cap": True}}, r"controls\.retain\.cap = True: "),
        ({"forget": {"temprature": 2}}, r"unknown option of controls\.forget 'temprature'.*temperature"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(PlanError, match=message):
        checked_controls(given, DRAWN)


def test_controls_that_change_nothing_are_none():
    assert checked_controls({"forget": {}, "retain": {"lowest": 1}}, DRAWN) == {}
    assert checked_controls({"forget": {"cap": 3}}, DRAWN) == {"forget": Controls(cap=3.0)}
