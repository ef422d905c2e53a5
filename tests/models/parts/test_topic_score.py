"""The score against loops, and Fisher's direction against what is known of it."""

from __future__ import annotations

import pytest
import torch

from palimpsest.models.parts.topic_score import discriminant, held_out, moments, running_mean, threshold_over


def test_the_running_mean_is_that_of_a_loop_and_goes_on_where_it_was():
    values = torch.randn(2, 7)
    there = torch.tensor([[False, False, True, True, True, True, True], [True] * 7])
    none = torch.zeros(2)
    whole, sums, counts = running_mean(values, there, none, none)
    for row in range(2):
        for t in range(7):
            seen = [float(values[row, i]) for i in range(t + 1) if there[row, i]]
            assert float(whole[row, t]) == pytest.approx(sum(seen) / max(1, len(seen)), abs=1e-5)
    later, *_ = running_mean(values[:, 4:], there[:, 4:], sums[:, 3], counts[:, 3])
    assert torch.allclose(later, whole[:, 4:], atol=1e-6)


def test_the_means_score_one_and_minus_one_and_whitening_finds_the_quiet_axis():
    """The classes differ a little on a quiet axis, and by chance more on a loud one."""
    torch.manual_seed(0)
    noise = torch.randn(400, 2) * torch.tensor([10.0, 0.1])
    gone, stays = noise[:200] + torch.tensor([1.0, 1.0]), noise[200:]
    both = [moments(list(points[:, None]), 2) for points in (gone, stays)]
    for whiten in (True, False):
        w, b = discriminant(*both, whiten=whiten, ridge=1e-6)
        assert float(gone.double().mean(0) @ w) + b == pytest.approx(1)
        assert float(stays.double().mean(0) @ w) + b == pytest.approx(-1)
        right = float(((gone.double() @ w + b > 0).float().mean() + (stays.double() @ w + b < 0).float().mean()) / 2)
        assert right > 0.99 if whiten else right < 0.9


def test_every_row_weighs_the_same_however_long():
    one, long = torch.tensor([[2.0]]), torch.zeros(9, 1)
    assert moments([one, long], 1).sum_D.tolist() == [2.0]


def test_classes_that_do_not_differ_have_no_direction():
    same = moments([torch.ones(1, 3)], 3)
    w, b = discriminant(same, same, whiten=True, ridge=0.1)
    assert w.tolist() == [0, 0, 0]
    assert b == 0


def test_the_threshold_lets_through_what_it_says():
    peaks = [n / 100 for n in range(100)]
    for share in (0.0, 0.01, 0.1):
        assert sum(p > threshold_over(peaks, share) for p in peaks) == round(100 * share)


def test_who_is_held_out_does_not_depend_on_the_order():
    ids = [f"row {n}" for n in range(60)]
    fitted, held = held_out(ids)
    again = held_out(ids[::-1])
    assert (sorted(fitted), sorted(held)) == (sorted(again[0]), sorted(again[1]))
    assert not set(fitted) & set(held)
    assert 8 < len(held) < 32
    assert held_out(ids[:3]) == (ids[:3], ids[:3])
