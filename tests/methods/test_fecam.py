"""FeCAM against numpy; that it deletes exactly is asked with the others in test_simple_cil.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.methods.counting import Counted, entering_head


@pytest.mark.parametrize("shrinkage", [1.0, 0.1])
def test_distances_are_those_of_numpy(shrinkage, tmp_path):
    world = Counted("fecam", "texts", tmp_path, scale=1.0, shrinkage=shrinkage)
    said = world.logits(world.learned(range(90)))[0].numpy()
    learned, asked = entering_head(world, range(90)), entering_head(world, [240])[0]
    for label in range(3):
        own = learned[label::3]
        covariance, mean = np.cov(own.T), own.mean(0)
        covariance = covariance + shrinkage * np.trace(covariance) / len(mean) * np.eye(len(mean))
        size = np.sqrt(np.diag(covariance))
        off = asked / np.linalg.norm(asked) - mean / np.linalg.norm(mean)
        distance = off @ np.linalg.pinv(covariance / np.outer(size, size)) @ off
        assert said[label] == pytest.approx(-distance, abs=2e-4 * max(1, distance))


def test_a_class_of_one_row_is_a_plain_distance(tmp_path):
    world = Counted("fecam", "texts", tmp_path, scale=1.0)
    said = world.logits(world.learned([0, 1, 4, 7]))[0]
    row, asked = entering_head(world, [0])[0], entering_head(world, [240])[0]
    off = asked / np.linalg.norm(asked) - row / np.linalg.norm(row)
    assert said[0].item() == pytest.approx(-(off @ off), abs=1e-5)
    assert torch.isfinite(said).all()
