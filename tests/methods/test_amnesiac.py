"""Amnesiac unlearning: the subtraction by hand, its limits, what is refused."""

from __future__ import annotations

import pytest
import torch
from tests.companions.test_delta_log import STEPS, write_log
from torch import nn

from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import ModelError, PlanError
from palimpsest.methods import configure
from palimpsest.methods.amnesiac import Amnesiac, taken_back


class Weights(nn.Module):
    """The tensors that the log of ``test_delta_log`` is of, at the weights its steps led to."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((4,), 15.0))
        self.v = nn.Parameter(torch.full((2,), 15.0))


def forgetting(ids: str) -> dict[str, TextSet]:
    return {"forget": TextSet([TokenSequence(i, (5, 6), (False, True)) for i in ids], pad_id=0)}


def method_with(folder) -> Amnesiac:
    method = Amnesiac(configure("amnesiac", {}))
    method.companions = {"deltas": write_log(folder / "deltas", STEPS)}
    return method


@pytest.mark.parametrize(("ids", "left"), [("b", 10.0), ("ac", 12.0), ("abcde", 0.0), ("e", 7.0)])
def test_by_hand(tmp_path, ids, left):
    """Four steps added 1, 2, 4 and 8; b was in the first and the third: 15 − 5 = 10. All of them: the start, 0."""
    model = Weights()
    assert method_with(tmp_path).edit(model, forgetting(ids)) == ["v", "w"]
    assert {value for p in model.parameters() for value in p.tolist()} == {left}


def test_what_may_not_move_stays(tmp_path):
    model = Weights()
    model.v.requires_grad_(False)
    assert method_with(tmp_path).edit(model, forgetting("b")) == ["w"]
    assert model.v.tolist() == [15.0, 15.0]


def test_a_half_precision_weight_is_rounded_once():
    weight, changes = torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([2.0**-10])
    found = taken_back(weight, changes)
    assert found.dtype == torch.bfloat16
    assert found.item() == torch.tensor(1.0 - 2.0**-10).bfloat16().item()


def test_a_log_of_other_tensors_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"holds 2 tensors that the model does not have \(first: v\)"):
        method_with(tmp_path).edit(nn.Linear(2, 2), forgetting("b"))


def test_what_is_kept_is_no_option_of_it():
    with pytest.raises(PlanError, match="unknown option of amnesiac 'keep'"):
        configure("amnesiac", {"keep": 0.1})


def test_a_repair_is_a_stage_over_what_stays():
    assert Amnesiac(configure("amnesiac", {})).stages({"forget": 2, "retain": 4}) == ()
    method = Amnesiac(configure("amnesiac", {"repair_epochs": 1.5}))
    (stage,) = method.stages({"forget": 2, "retain": 4})
    assert (stage.anchor, stage.epochs, stage.phases[0].sets) == ("retain", 1.5, ("retain",))
    with pytest.raises(PlanError, match="repair_epochs = 1.5 needs the retain set; give it with --retain"):
        method.prepare(Weights(), forgetting("b"))
