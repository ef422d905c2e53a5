"""Concatenated means: joined and weighted cosines by hand, and synthesis by brute force."""

from __future__ import annotations

import math

import pytest
import torch

from palimpsest.models.parts.concatenated_means import ConcatenatedMeans, ConcatenatedMeansConfig, synthesised

TASKS, OWN = (1, 2, 3), torch.tensor([1, 2, 1, 3, 3])
PRESENT = torch.tensor([True, True, True, True, True])


def cosine(a, b) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def means() -> torch.Tensor:
    return torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)).double()


def test_synthesis_by_brute_force():
    given = means()
    found = synthesised(given, PRESENT, OWN, TASKS)
    for c in range(5):
        for place, task in enumerate(TASKS):
            if task <= OWN[c]:
                assert torch.equal(found[c, place], given[c, place])
                continue
            new = [n for n in range(5) if OWN[n] == task]
            shared = TASKS.index(int(OWN[c]))
            alike = [math.exp(cosine(given[c, shared].tolist(), given[n, shared].tolist())) for n in new]
            for d in range(4):
                wanted = sum(a * given[n, place, d].item() for a, n in zip(alike, new, strict=True)) / sum(alike)
                assert found[c, place, d].item() == pytest.approx(wanted, abs=1e-12)


def test_a_class_that_is_gone_is_in_no_synthesis():
    given, without = means(), PRESENT.clone()
    without[4] = False
    found = synthesised(given, without, OWN, TASKS)
    assert torch.equal(found[0, 2], given[3, 2])  # one class is left of task 3
    assert not found[4].any()
    without[3] = False
    assert not synthesised(given, without, OWN, TASKS)[:, 2].any()


@pytest.mark.parametrize("join", ["joined", "weighted"])
def test_logits_by_hand(join):
    config = {"at": "head", "width": 4, "classes": 5, "tasks": TASKS, "has_rows": False, "join": join}
    head = ConcatenatedMeans(ConcatenatedMeansConfig.model_validate({**config, "other_weight": 0.3}))
    head.own_C.copy_(OWN)
    head.fit(means().flatten(1), PRESENT)
    features = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    said = head.answer(features)
    for row in range(2):
        for c in range(5):
            f, p = features[row].tolist(), head.means_CVD[c].tolist()
            if join == "joined":
                wanted = cosine([x for view in f for x in view], [x for view in p for x in view])
            else:
                own = TASKS.index(int(OWN[c]))
                wanted = sum((1 if v == own else 0.3 / 2) * cosine(f[v], p[v]) for v in range(3))
            assert said[row, c].item() == pytest.approx(16 * wanted, abs=1e-4)


def test_a_class_that_is_gone_forgets_its_task():
    head = ConcatenatedMeans(ConcatenatedMeansConfig(at="head", width=4, classes=5, tasks=TASKS, has_rows=False))
    head.own_C.copy_(OWN)
    head.fit(means().flatten(1), torch.tensor([True, False, True, True, True]))
    assert head.own_C.tolist() == [1, 0, 1, 3, 3]
    assert head.present_C.tolist() == [True, False, True, True, True]
