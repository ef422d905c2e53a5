"""The cache of hidden states as a companion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from palimpsest.companions.marks import MarkKey
from palimpsest.companions.reference_states import ReferenceStates
from palimpsest.models.reference import _file_of


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    """For the battery: states of these rows and of another, and the head."""
    place.mkdir(parents=True)
    save_file({"weight": torch.zeros(2, 2)}, place / "head.safetensors")
    for example_id in (*ids, "another"):
        save_file({"hidden_SD": torch.ones(3, 2)}, place / _file_of(example_id))


def test_the_head_is_nobodys(tmp_path):
    key = MarkKey(b"k" * 32)
    plant(tmp_path / "reference", key, ["a"])
    states = ReferenceStates.open(tmp_path / "reference", key)
    assert states.held()[:2] == (2, 2)
    states.forget(["a", "another"])
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["head.safetensors"]
