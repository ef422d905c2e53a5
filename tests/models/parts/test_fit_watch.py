"""What a watching part is fitted by: the threshold set by set, the choice by whole questions, and general text."""

from __future__ import annotations

import pytest
import torch
from tests.contract.test_guards import ABOUT, rows

from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.models.parts import attach
from palimpsest.models.parts.fit_watch import HeldRows, RowMeans, _caught, _threshold, fit_watch, points_of
from palimpsest.models.parts.refusal_guard import RefusalGuard, RefusalGuardConfig
from palimpsest.models.parts.topic_score import moments

ALONG = torch.ones(1, dtype=torch.float64)


def scored(*values: float, asked: int = 1) -> RowMeans:
    """A row of width one, whose running means are its scores."""
    return RowMeans(torch.tensor(values)[:, None], asked)


def test_the_share_holds_of_each_set_and_not_of_all_rows_together():
    """Of 20 rows with scores 0.01 to 0.20 a tenth may be above, of 5 rows none: 0.5, and not what is above 2 of 25."""
    many, few = [scored(n / 100) for n in range(1, 21)], [scored(n / 10) for n in range(1, 6)]
    assert _threshold(ALONG, 0.0, HeldRows([many, few], [], 1, 0.1)) == pytest.approx(0.5)
    assert _threshold(ALONG, 0.0, HeldRows([many], [], 1, 0.1)) == pytest.approx(0.18)
    assert _threshold(ALONG, 0.0, HeldRows([], [], 1, 0.1)) == 0.0


def test_a_row_is_caught_by_any_token_of_its_question():
    """One class has mean 1 and the other −1, so that a score is the number itself; the quiet row is at 0.25."""
    gone = [scored(0.0, 0.5, 0.125, 9.0, asked=3), scored(0.0, 0.0, 0.125, 9.0, asked=3)]
    held = HeldRows([[scored(0.0, 0.25)]], gone, 2, 0.0)
    classes = (moments([torch.tensor([[float(n)]])], 1) for n in (1, -1))
    caught, over = _caught(*classes, held, False, 1.0)
    assert caught == 0.5
    assert over == pytest.approx((0.25 - 0.125) / 2)


def test_fitted_on_general_text_it_does_not_fire_there(tiny_llama):
    """Rows of one kind leave open what else there is: general text is refused, too."""
    generator = torch.Generator().manual_seed(7)
    texts = torch.randint(51, 61, (40, 12), generator=generator).tolist()
    general = TextSet([TokenSequence(f"g{n}", tuple(t), (False,) + (True,) * 11) for n, t in enumerate(texts)], 0)
    known, unseen = general.subset(general.ids[:30]), general.subset(general.ids[30:])
    sets = {"retain": rows("r", 24, 50, 2)}
    fired = []
    for stays in (sets, {**sets, "replay": known}):
        part = RefusalGuard(RefusalGuardConfig(at="model.layers.1", width=32, refusal=(5, 2), least=2))
        attach(tiny_llama, [part])
        fit_watch(tiny_llama, part, rows("f", 24, ABOUT, 1), stays, whiten=True, ridge=None, share=0.0)
        above = [
            bool((p.means_TD[1:] @ part.direction_D + part.offset > part.threshold).any())
            for p in points_of(tiny_llama, "model.layers.1", unseen, unseen.ids)
        ]
        fired.append(sum(above))
        part.times_off += 1
    assert fired[0] > 0
    assert fired[1] == 0
