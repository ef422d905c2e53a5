from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from palimpsest.data.memory.neighbours import Backend, NeighbourIndex
from palimpsest.errors import DataError, MissingExtra

BACKENDS: list[Backend] = ["torch", "faiss"]


def index(vectors_ND: Tensor, backend: Backend) -> NeighbourIndex:
    if backend == "faiss":
        pytest.importorskip("faiss")
    return NeighbourIndex([str(i) for i in range(len(vectors_ND))], vectors_ND, backend=backend)


def brute_force(vectors: list[list[float]], query: list[float], k: int) -> list[str]:
    """Ids by exact integer arithmetic, ties by position."""
    ranked = sorted(
        range(len(vectors)), key=lambda i: (sum((a - b) ** 2 for a, b in zip(vectors[i], query, strict=True)), i)
    )
    return [str(i) for i in ranked[:k]]


grid = st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), min_size=1, max_size=60)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40)
@given(grid, st.lists(st.integers(-2, 2), min_size=2, max_size=2), st.integers(1, 12))
def test_neighbours_and_ties_equal_brute_force(
    backend: Backend, vectors: list[list[float]], query: list[float], k: int
) -> None:
    found = index(torch.tensor(vectors, dtype=torch.float32), backend).search(torch.tensor([query]).float(), k)
    assert [i for i, _ in found[0]] == brute_force(vectors, query, k)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_equal_vectors_come_in_the_order_of_the_data(backend: Backend) -> None:
    vectors_ND = torch.ones(300, 4)
    vectors_ND[7] = 0.5
    assert [i for i, _ in index(vectors_ND, backend).search(torch.ones(1, 4), 3)[0]] == ["0", "1", "2"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_distances_are_euclidean(backend: Backend) -> None:
    found = index(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), backend).search(torch.zeros(2, 2), 5)
    assert found == [[("1", 1.0), ("0", 5.0)]] * 2


def test_both_backends_agree_to_the_last_bit() -> None:
    pytest.importorskip("faiss")
    torch.manual_seed(0)
    vectors_ND = torch.randn(500, 24)
    vectors_ND[100:120] = vectors_ND[40] + 1e-4 * torch.randn(20, 24)
    queries_BD = torch.cat([vectors_ND[38:43], torch.randn(20, 24)])
    assert index(vectors_ND, "faiss").search(queries_BD, 10) == index(vectors_ND, "torch").search(queries_BD, 10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_removed_ids_never_come_back(backend: Backend) -> None:
    torch.manual_seed(0)
    vectors_ND = torch.randn(50, 3)
    searched = index(vectors_ND, backend)
    gone = {str(i) for i in range(0, 50, 3)}
    searched.remove(gone)
    kept = [i for i in range(50) if str(i) not in gone]
    assert searched.ids == tuple(map(str, kept))
    assert len(searched) == len(kept)
    for row, found in enumerate(searched.search(vectors_ND, 50)):
        order = sorted(kept, key=lambda i, row=row: float((vectors_ND[i] - vectors_ND[row]).double().square().sum()))
        assert [i for i, _ in found] == list(map(str, order))
    searched.remove(searched.ids)
    assert searched.search(vectors_ND[:2], 3) == [[], []]


def test_the_index_keeps_its_own_copy() -> None:
    vectors_ND = torch.eye(3)
    searched = index(vectors_ND, "torch")
    vectors_ND.zero_()
    assert searched.search(torch.eye(3)[1:2], 1) == [[("1", 0.0)]]


def test_wrong_input_is_refused() -> None:
    with pytest.raises(DataError, match="2 ids and vectors of shape"):
        NeighbourIndex(["a", "b"], torch.ones(3, 2))
    with pytest.raises(DataError, match="id 'a' occurs twice"):
        NeighbourIndex(["a", "a"], torch.ones(2, 2))
    with pytest.raises(DataError, match=r"1 vectors are not finite \(first: 'b'\)"):
        NeighbourIndex(["a", "b"], torch.tensor([[1.0], [torch.nan]]))
    good = NeighbourIndex(["a", "b"], torch.ones(2, 2))
    with pytest.raises(DataError, match="nothing was removed"):
        good.remove(["a", "z"])
    assert good.ids == ("a", "b")
    with pytest.raises(DataError, match=r"shape \(1, 3\); accepted: finite \(B, 2\)"):
        good.search(torch.ones(1, 3), 1)
    with pytest.raises(DataError, match="k is 0"):
        good.search(torch.ones(1, 2), 0)


def test_without_faiss_auto_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert NeighbourIndex(["a"], torch.ones(1, 2)).backend == "torch"
    with pytest.raises(MissingExtra, match=r"palimpsest-ml\[pairing\]"):
        NeighbourIndex(["a"], torch.ones(1, 2), backend="faiss")
