from __future__ import annotations

import pytest
import torch

from palimpsest.metrics.em import EM
from palimpsest.metrics.evaluate import evaluate


def test_hand_worked_example(facts_of):
    """Answer 6 7 8 eos with arg-maxes 6 9 8 eos: two of the three tokens before the eos."""
    assert EM().update(facts_of([True, False, True, True], ends_with_eos=True)) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("right", "eos", "value"),
    [
        ([True] * 3, False, 1.0),
        ([False] * 3, False, 0.0),
        ([False, False, True], False, 1 / 3),
        ([False, True], True, 0.0),
    ],
)
def test_boundaries(facts_of, right, eos, value):
    assert EM().compute({"x": EM().update(facts_of(right, ends_with_eos=eos))}).value == value


@pytest.mark.parametrize("right", [[], [True]])
def test_an_empty_answer_is_unscored(facts_of, right):
    assert EM().update(facts_of(right, ends_with_eos=bool(right))) is None


def test_equals_a_plain_loop_on_a_model(half_learned, texts, as_set):
    eos = 3
    rows = [[*texts[0, :15].tolist(), eos], texts[1, :20].tolist()]
    rows[1][-1] = 4
    rows[0][8] = rows[1][9] = eos  # an eos in the middle is an answer token like any other
    by_id = evaluate(half_learned, as_set(rows, prompts=(5, 5)), [EM()], eos_ids=frozenset({eos})).scores["em"].by_id
    for k, (row, stop) in enumerate(zip(rows, (15, 20), strict=True)):
        hits = [int(half_learned(torch.tensor([row[:t]])).logits[0, -1].argmax()) == row[t] for t in range(5, stop)]
        assert by_id[f"x{k}"] == pytest.approx(sum(hits) / len(hits), abs=1e-9)
