"""Saved embeddings find what the index of ids finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from palimpsest.companions.marks import MarkKey
from palimpsest.companions.neighbour_vectors import NeighbourVectors

KEY = MarkKey(b"k" * 32)


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    """For the battery: vectors of these rows and of another."""
    rows = [*ids, "another"]
    NeighbourVectors.open(place, key).save(rows, torch.arange(3.0 * len(rows)).view(-1, 3))


def test_a_forgotten_vector_is_not_found(tmp_path):
    plant(tmp_path, KEY, ["a", "b"])
    vectors = NeighbourVectors.open(tmp_path, KEY)
    query = torch.tensor([[0.0, 1.0, 2.0]])
    assert vectors.index().search(query, 1)[0][0][0] == KEY.of_id("a")
    vectors.forget(["a"])
    assert vectors.index().search(query, 1)[0][0][0] == KEY.of_id("b")
    assert torch.arange(3.0).numpy().tobytes() not in (tmp_path / "vectors.safetensors").read_bytes()
