"""Files of an unfinished run that carry their digest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from palimpsest.models import sealed
from palimpsest.models.sealed import is_sound, with_digest


def test_one_changed_byte_and_half_a_file_are_not_sound(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0)}
    file = tmp_path / "x.safetensors"
    save_file(tensors, file, metadata=with_digest(tensors, {"state": "1"}))
    whole = file.read_bytes()
    assert is_sound(file)
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[: len(whole) // 2], b""):
        file.write_bytes(damaged)
        assert not is_sound(file)


def test_memory_that_runs_out_says_nothing_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told that a checkpoint is damaged removes it."""
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, file)

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sealed, "safe_open", full)
    with pytest.raises(MemoryError):
        is_sound(file)
