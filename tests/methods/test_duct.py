"""DUCT: one task is fine-tuning; of a second only a share stays; old head rows move towards the new ones near them."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.methods.small_classes import beside, learn, prepared, small_classifier, two_tasks

from palimpsest.errors import PlanError
from palimpsest.methods.duct import carried_over, likeness
from palimpsest.models.scope import Scope, apply_scope

FIRST, SECOND = two_tasks("images")
STILL = {"head_ratio": 0.0}


@pytest.fixture(scope="module")
def after_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("duct")
    model = learn("duct", small_classifier("images"), {"learn": FIRST}, folder / "one")
    return model, beside(folder / "one")


def second(after_one, folder, name="duct", **options):
    model, found = after_one
    return learn(name, copy.deepcopy(model), {"learn": SECOND}, folder, found=found, **options)


def body_of(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for name, p in model.named_parameters() if "classifier" not in name])


def test_one_task_is_fine_tuning(after_one, tmp_path):
    """At two rates and over the classes at hand: what SLCA does."""
    slca = learn("slca", small_classifier("images"), {"learn": FIRST}, tmp_path / "a")
    assert all(torch.equal(a, b) for a, b in zip(after_one[0].parameters(), slca.parameters(), strict=True))


def test_a_ratio_of_zero_keeps_the_backbone_and_of_old_rows_all(after_one, tmp_path):
    found = second(after_one, tmp_path / "run", ratio=0.0, **STILL)
    assert torch.equal(body_of(found), body_of(after_one[0]))
    assert torch.equal(found.classifier.weight[:2], after_one[0].classifier.weight[:2])
    assert not torch.equal(found.classifier.weight[2:], after_one[0].classifier.weight[2:])


def test_a_share_of_the_way_stays(after_one, tmp_path):
    """The backbone ends ratio · r of the way that tuning went, r from the class means before and after."""
    tuned = body_of(second(after_one, tmp_path / "a", "slca", align_epochs=0))
    start = body_of(after_one[0])
    half = body_of(second(after_one, tmp_path / "b", ratio=0.5, **STILL))
    share = ((half - start) @ (tuned - start) / (tuned - start).square().sum()).item()
    assert 0.45 < share <= 0.5 + 1e-3  # the means hardly turned
    assert ((half - start) - share * (tuned - start)).norm() < 1e-3 * (tuned - start).norm()


def test_likeness_by_hand():
    """Cosines 1, 0 and −1 of three classes, however long."""
    before = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    after = torch.tensor([[5.0, 0.0], [0.0, 4.0], [0.0, -1.0]])
    assert likeness(before, after) == pytest.approx(0.0)
    assert likeness(before, 7 * before) == pytest.approx(1.0)


def test_rows_are_carried_over_from_the_class_that_is_near():
    """Old class 0 lies at new class 1, old 1 at new 0; far apart beside the entropy, so the plan is a permutation."""
    old, new = torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[10.0, 0.0], [0.0, 20.0]])
    means = torch.tensor([[0.0, 0.0], [9.0, 9.0]]), torch.tensor([[9.0, 9.1], [0.1, 0.0]])
    found = carried_over(old, new, means, 0.02, 0.25)
    assert torch.allclose(found, torch.tensor([[0.75, 5.75], [4.0, 1.5]]), atol=1e-4)
    assert torch.equal(carried_over(old, new, means, 0.02, 0.0), old)


def test_with_entropy_alone_every_old_row_gets_the_mean_of_the_new():
    old, new = torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])
    means = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    assert torch.allclose(carried_over(old, new, means, 1e6, 1.0), torch.tensor([[2.0], [2.0]]), atol=1e-4)


def test_transport_moves_old_rows_and_biases_alone(after_one, tmp_path):
    still, moved = (second(after_one, tmp_path / str(r), head_ratio=r) for r in (0.0, 0.5))
    assert torch.equal(body_of(still), body_of(moved))
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.equal(still.get_parameter(name)[2:], moved.get_parameter(name)[2:])
        assert not torch.equal(still.get_parameter(name)[:2], moved.get_parameter(name)[:2])


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_is_refused(tmp_path):
    model = apply_scope(small_classifier("images"), Scope(kind="lora", rank=2))
    with pytest.raises(PlanError, match=r"rows of the head itself.*scope.kind = all"):
        prepared("duct", model, {"learn": FIRST}, tmp_path / "run", {})
