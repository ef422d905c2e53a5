"""Packing of a step's changes: by hand, against a plain sort, and back again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.companions.delta_format import KeptTensor, add_packed, as_gaps, from_gaps, kept_positions, packed
from palimpsest.companions.delta_record import record_name, tensors_of, write_delta


def brute_force(update: torch.Tensor, share: float) -> set[int]:
    """Positions by a sort of Python; entries of 0 are never kept."""
    values = update.flatten().tolist()
    count = max(1, round(share * len(values)))
    ranked = sorted((i for i, v in enumerate(values) if v), key=lambda i: -abs(values[i]))
    return set(ranked[:count])


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=40, unique_by=abs), st.floats(0.01, 1.0))
def test_the_largest_entries_are_kept(values, share):
    update = torch.tensor(values, dtype=torch.float32)
    found = {i for i in kept_positions(update, share).tolist() if update[i]}
    assert found == brute_force(update, share)


def test_by_hand():
    """Of (1, −4, 2, 0) a half are −4 and 2; the next tensor is kept whole."""
    layout = (KeptTensor("a", (2, 2), 0.5), KeptTensor("b", (3,), 1.0))
    tensors = packed({"a": torch.tensor([[1.0, -4.0], [2.0, 0.0]]), "b": torch.tensor([0.1, 0.2, 0.3])}, layout)
    assert tensors["gap"].tolist() == [1, 0]
    assert tensors["gap"].dtype == torch.uint8
    assert tensors["value"].tolist() == [-1.0, 0.5]
    assert tensors["scale"].tolist() == [4.0]
    totals = {"a": torch.ones(2, 2), "b": torch.zeros(3)}
    add_packed(totals, tensors, layout)
    assert totals["a"].tolist() == [[1.0, -3.0], [3.0, 1.0]]
    assert torch.equal(totals["b"], torch.tensor([0.1, 0.2, 0.3]))  # whole: to the bit


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=50))
def test_gaps_and_back(positions):
    position_K = torch.tensor(sorted(positions))
    assert torch.equal(from_gaps(as_gaps(position_K)), position_K)


@pytest.mark.parametrize(("last", "width"), [(255, torch.uint8), (256, torch.uint16), (70000, torch.int32)])
def test_gaps_take_the_narrowest_integers(last, width):
    assert as_gaps(torch.tensor([0, last + 1])).dtype == width


def test_several_tensors_and_what_did_not_move():
    """Sums of two steps equal those of the pruned changes; a tensor that stood still costs nothing."""
    torch.manual_seed(0)
    layout = (KeptTensor("a", (30,), 0.1), KeptTensor("still", (8,), 0.5), KeptTensor("c", (5, 4), 0.25))
    steps = [{"a": torch.randn(30), "still": torch.zeros(8), "c": torch.randn(5, 4)} for _ in range(2)]
    totals = {place.name: torch.zeros(place.shape) for place in layout}
    for step in steps:
        add_packed(totals, packed(step, layout), layout)
    for place in layout:
        wanted = torch.zeros(place.size)
        for step in steps:
            kept = list(brute_force(step[place.name], place.share))
            wanted[kept] += step[place.name].flatten()[kept]
        assert torch.allclose(totals[place.name].flatten(), wanted, rtol=1e-3, atol=0)


def test_a_twentieth_of_the_entries_is_about_a_twentieth_of_the_bytes():
    layout = (KeptTensor("a", (300, 300), 0.05),)
    tensors = packed({"a": torch.randn(300, 300)}, layout)
    assert sum(tensor.nbytes for tensor in tensors.values()) < 0.05 * 4 * 90000


def test_a_step_that_moved_nothing_or_one_entry_can_be_written(tmp_path):
    """What has one entry or none has no stride of its own, and is written and read like any other."""
    for count in (0, 1):
        update = torch.zeros(9)
        update[:count] = 1.0
        tensors = packed({"a": update}, (KeptTensor("a", (9,), 0.5),))
        write_delta(tmp_path / record_name(count), tensors, ["m"], "layout")
        found = tensors_of(tmp_path / record_name(count))
        assert found is not None
        assert found["value"].tolist() == [1.0] * count
