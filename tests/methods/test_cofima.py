"""CoFiMA: at both ends of alpha it is the model before and SLCA; between them each weight is what the equation says."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.methods.small_classes import beside, learn, prepared, small_classifier, two_tasks

from palimpsest.data.encode.any_set import labels_of
from palimpsest.methods.cofima import fishers_of
from palimpsest.rules.fisher import fisher_of

FIRST, SECOND = two_tasks("images")
ONLY_TUNED = {"align_epochs": 0}


@pytest.fixture(scope="module")
def after_one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cofima")
    model = learn("cofima", small_classifier("images"), {"learn": FIRST}, folder / "one")
    return model, beside(folder / "one")


def second(after_one, name, folder, **options):
    model, found = after_one
    return learn(name, copy.deepcopy(model), {"learn": SECOND}, folder, found=found, **ONLY_TUNED, **options)


def test_alpha_zero_keeps_the_model_before_but_for_the_new_rows(after_one, tmp_path):
    found = second(after_one, "cofima", tmp_path / "run", alpha=0.0)
    for name, before in after_one[0].named_parameters():
        after = dict(found.named_parameters())[name]
        if "classifier" in name:
            assert torch.equal(after[:2], before[:2])
            assert not torch.equal(after[2:], before[2:])
        else:
            assert torch.equal(after, before), name


def test_alpha_one_is_slca(after_one, tmp_path):
    ours = second(after_one, "cofima", tmp_path / "a", alpha=1.0)
    slca = second(after_one, "slca", tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), slca.parameters(), strict=True))


def test_the_average_by_hand(after_one, tmp_path):
    """Each weight of one matrix, in a loop, from the two Fishers as they are kept and taken."""
    model, found = copy.deepcopy(after_one[0]), after_one[1]
    method = prepared("cofima", model, {"learn": SECOND}, tmp_path / "run", found, alpha=0.3, most=1e-3)
    name = "vit.layernorm.weight"
    before = dict(model.named_parameters())[name].tolist()
    with torch.no_grad():
        dict(model.named_parameters())[name].add_(0.1 * torch.randn(16, generator=torch.Generator().manual_seed(1)))
    after = dict(model.named_parameters())[name].tolist()
    old = found["fisher"].tensors()[name].tolist()
    new = fisher_of(model, SECOND, limit=256, labels="data", draws=1)[name].clamp(max=1e-3).tolist()
    assert len(set(old)) > 1
    method._average(model)
    wanted = [
        (0.7 * f * a + 0.3 * g * b) / (0.7 * f + 0.3 * g) for f, g, a, b in zip(old, new, before, after, strict=True)
    ]
    assert dict(model.named_parameters())[name].tolist() == pytest.approx(wanted, rel=1e-5)


def test_the_fisher_is_capped_and_of_the_rows(after_one):
    kept = after_one[1]["fisher"]
    assert kept.holds(FIRST.ids) == set(FIRST.ids)
    assert max(float(f.max()) for f in kept.tensors().values()) == pytest.approx(1e-4)
    assert kept.tensors().keys() == dict(after_one[0].named_parameters()).keys()


def test_a_head_that_grew_has_no_earlier_fisher():
    one, two = fishers_of("w", torch.zeros(3, 2), ({"w": torch.ones(2, 2)}, {"w": 5 * torch.ones(3, 2)}))
    assert torch.equal(one, two)
    one, two = fishers_of("w", torch.zeros(3), ({"w": torch.ones(3)}, {"w": 5 * torch.ones(3)}))
    assert (one[0], two[0]) == (1, 5)


def test_a_first_run_is_that_of_slca(tmp_path):
    ours = learn("cofima", small_classifier("images"), {"learn": FIRST}, tmp_path / "a")
    slca = learn("slca", small_classifier("images"), {"learn": FIRST}, tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), slca.parameters(), strict=True))
    assert labels_of(FIRST).unique().tolist() == [0, 1]
