"""Class means and what all class heads share: by hand, absent classes, a head that grew."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from palimpsest.errors import ModelError
from palimpsest.models import parts
from palimpsest.models.parts.class_head import ClassHeadConfig, with_absent
from palimpsest.models.parts.class_means import ClassMeans


def means(classes: int = 3, scale: float = 1.0) -> ClassMeans:
    """Classes 0 and 2 are there, at right angles."""
    part = ClassMeans(ClassHeadConfig(at="head", width=2, classes=classes, scale=scale))
    part.fit(torch.tensor([[2.0, 0.0], [9.0, 9.0], [0.0, 5.0]]), torch.tensor([True, False, True]))
    return part


class Model(nn.Module):
    """A head alone."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(2, outputs)

    def forward(self, entering: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.head(entering)
        return said


def test_by_hand() -> None:
    """(3, 4) has the cosines 3/5 and 4/5; what is not there lies 100 below the least."""
    bearer = parts.attach(Model(3), [means(scale=10)])
    assert bearer(torch.tensor([[3.0, 4.0]]))[0].tolist() == pytest.approx([6, -94, 8])


def test_absent_ones_have_no_probability_and_a_finite_logit() -> None:
    said = with_absent(torch.tensor([[5.0, 1.0]]), torch.tensor([True, False]), 2)
    assert said.softmax(-1)[0].tolist() == pytest.approx([1, 0], abs=1e-40)
    assert torch.isfinite(said.log_softmax(-1)).all()


def test_a_head_that_grew_has_more_outputs_than_the_part() -> None:
    bearer = parts.attach(Model(5), [means()])
    said = bearer(torch.tensor([[1.0, 0.0]]))
    assert said[0].tolist() == pytest.approx([1, -100, 0, -100, -100])


def test_a_head_that_shrank_is_refused() -> None:
    bearer = parts.attach(Model(2), [means()])
    with pytest.raises(ModelError, match="answers for 3 classes and the head has fewer"):
        bearer(torch.zeros(1, 2))


def test_a_wider_one_takes_over_what_was_there() -> None:
    wider = ClassMeans(ClassHeadConfig(at="head", width=2, classes=5))
    wider.take_over(means())
    assert wider.present_C.tolist() == [True, False, True, False, False]
    assert torch.equal(wider.means_CD[:3], means().means_CD)


def test_what_is_not_there_leaves_no_mean() -> None:
    assert means().means_CD[1].tolist() == [0, 0]
