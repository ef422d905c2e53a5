"""Wrong labels: never the right one, and a plain word where there is none."""

from __future__ import annotations

import pytest
import torch

from palimpsest.errors import RunError
from palimpsest.models.wrong_labels import wrong_labels


def test_never_the_right_one():
    right_S = torch.arange(4).repeat(50)
    wrong_S = wrong_labels(right_S, 4)
    assert (wrong_S != right_S).all()
    assert set(wrong_S.tolist()) == {0, 1, 2, 3}


def test_a_head_of_one_class_has_none():
    with pytest.raises(RunError, match="has one class"):
        wrong_labels(torch.zeros(2, dtype=torch.long), 1)
