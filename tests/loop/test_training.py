"""Schedules by hand."""

import pytest
from pydantic import ValidationError

from palimpsest.loop.training import Training


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5]),
        ("cosine", [0.5, 1.0, 1.0, 0.8535534, 0.5]),
        ("halving", [0.5, 1.0, 1.0, 1.0, 0.5]),
    ],
)
def test_schedules_after_two_steps_of_warm_up(kind, expected):
    training = Training(learning_rate=1.0, lr_scheduler_type=kind, warmup_steps=2, halving_steps=2)
    assert [training.learning_rate_at(step, planned=6) for step in range(5)] == pytest.approx(expected)


def test_an_explicit_number_of_steps_wins_over_epochs():
    assert Training(batch_size=8, num_train_epochs=2, max_steps=5).planned_steps(20) == 5
    assert Training(batch_size=8, num_train_epochs=2, max_steps=50).planned_steps(20) == 50
    assert Training(batch_size=8, num_train_epochs=0.5).planned_steps(32) == 2


def test_unknown_option_is_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        Training(lr=1.0)
