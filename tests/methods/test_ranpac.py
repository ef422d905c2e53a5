"""RanPAC against numpy; that it deletes exactly is asked with the others in test_simple_cil.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.methods.counting import Counted, entering_head

from palimpsest.companions.class_counting import fold_of
from palimpsest.errors import ModelError
from palimpsest.methods.ranpac import best_penalty
from palimpsest.models.parts.class_head import class_heads_of
from palimpsest.models.parts.ridge_head import PENALTIES


def ridge(hidden: np.ndarray, wanted: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(hidden.T @ hidden + penalty * np.eye(hidden.shape[1]), hidden.T @ wanted)


def test_penalty_and_answers_are_those_of_numpy(tmp_path):
    world = Counted("ranpac", "texts", tmp_path, features=40, scale=1.0)
    version = world.learned(range(240))
    (head,) = class_heads_of(version.model)
    hidden = np.maximum(entering_head(world, range(240)) @ head.random_DM.double().numpy(), 0)
    hidden = np.round(hidden * 65536) / 65536
    wanted = np.eye(3)[np.arange(240) % 3]
    is_held = np.array([fold_of(f"t{n}", 2) == 1 for n in range(240)])
    errors = [
        np.square(hidden[is_held] @ ridge(hidden[~is_held], wanted[~is_held], penalty) - wanted[is_held]).sum()
        for penalty in PENALTIES
    ]
    chosen = best_penalty(version.record.sums)
    assert chosen == PENALTIES[int(np.argmin(errors))]
    asked = np.maximum(entering_head(world, [240])[0] @ head.random_DM.double().numpy(), 0)
    said = world.logits(version)[0, :3].numpy()
    assert said == pytest.approx(asked @ ridge(hidden, wanted, chosen), abs=1e-3)


def test_random_features_are_of_the_seed_and_kept(tmp_path):
    one, other = (Counted("ranpac", "images", tmp_path / str(s), seed=s) for s in (0, 1))
    first, second = one.learned(range(9)), other.learned(range(9))
    assert not torch.equal(class_heads_of(first.model)[0].random_DM, class_heads_of(second.model)[0].random_DM)
    on = one.learned(range(9, 20), first)
    assert torch.equal(class_heads_of(first.model)[0].random_DM, class_heads_of(on.model)[0].random_DM)


def test_statistics_of_other_features_are_refused(tmp_path):
    world, wider = Counted("ranpac", "images", tmp_path / "a"), Counted("ranpac", "images", tmp_path / "b", features=7)
    with pytest.raises((ModelError, RuntimeError), match="other features"):
        wider.learned(range(9, 20), world.learned(range(9)))
    means = Counted("simple_cil", "images", tmp_path / "c")
    with pytest.raises(ModelError, match="counted by another method"):
        world.learned(range(9, 20), means.learned(range(9)))
