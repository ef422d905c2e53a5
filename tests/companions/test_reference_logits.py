"""The cache of class logits as a companion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from palimpsest.companions.marks import MarkKey
from palimpsest.companions.reference_logits import ReferenceLogits
from palimpsest.models.class_logits import _digest, _write


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    """For the battery: logits of these rows and of another."""
    place.parent.mkdir(parents=True)
    rows = [*ids, "another"]
    _write(place, [_digest(i) for i in rows], torch.arange(2.0 * len(rows)).view(-1, 2))


def test_the_others_keep_theirs(tmp_path):
    place = tmp_path / "reference" / "logits.safetensors"
    plant(place, MarkKey(b"k" * 32), ["a", "b"])
    logits = ReferenceLogits.open(place, MarkKey(b"k" * 32))
    logits.forget(["a"])
    assert logits.holds(["a", "b", "another"]) == {"b", "another"}
    assert logits._cache._logits_NV.tolist() == [[2.0, 3.0], [4.0, 5.0]]
