"""The larger of two: by hand."""

from __future__ import annotations

import pytest
import torch

from palimpsest.models.parts.larger_of_two import LargerOfTwo
from palimpsest.models.parts.views_head import ViewsHeadConfig


def test_by_hand():
    """Cosines 1 and 0 in one view and 0 and 1 in the other, e to the 2 against 1: both classes get e² / (e² + 1)."""
    head = LargerOfTwo(ViewsHeadConfig(at="head", width=2, classes=3, tasks=(1, 2), scale=2.0))
    head.class_rows.data = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    head.present_C.copy_(torch.tensor([True, True, False]))
    said = head.requires_grad_(False).answer(torch.tensor([[[5.0, 0.0], [0.0, 7.0]]]))[0].exp().tolist()
    likely = 7.38905609893065 / 8.38905609893065
    assert said[:2] == pytest.approx([likely, likely], abs=1e-6)
    assert said[2] < 1e-20
