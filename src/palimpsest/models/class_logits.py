"""What a classifier says of a whole set, and the reference model of a run made of it.

Logits of a class or two hundred are smaller than the features they are made of, so they themselves are kept: exact, one
file, and a run asks no second model.

Shape legend: B images of a batch, N images of a set, V classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from palimpsest.data.encode.any_set import ClassSet
from palimpsest.data.encode.batch import Batch, Predictions
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.models.sealed import save_sealed
from palimpsest.untrusted import parse_json

LOGITS_FILE = "logits.safetensors"


def class_logits(model: nn.Module, examples: ClassSet, *, batch_size: int = 128) -> Float[Tensor, "N V"]:
    """Logits of every example, unaugmented, the model in eval mode; on the CPU, in fp32.

    Args:
        model: used on the device it is on; every layer's mode is as before afterwards.
        examples: N of them.
        batch_size: images per forward pass.
    """
    with asked(model):
        batches = in_passes(model, examples.plain(), batch_size)
        parts = [batch.predict(model).logits_SV.float().cpu() for batch in batches]
    return torch.cat(parts)


class CachedLogits:
    """Reference of a run on images that are never augmented: what the model said of each before the run."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / LOGITS_FILE
        self._logits_NV = load_file(self._file)["logits_NV"].clone()
        self._row = {digest: row for row, digest in enumerate(_digests_in(self._file))}

    def predict(self, model: nn.Module, batch: Batch) -> Predictions:
        """What the model said before the run; ``model`` itself is not asked."""
        rows = [self._row[_digest(example_id)] for example_id in batch.ids]
        target_S = batch.target_S
        return Predictions(self._logits_NV[rows].to(target_S.device), target_S, batch.owner_S, len(batch))

    def __len__(self) -> int:
        return len(self._row)

    def holds(self, ids: Iterable[str]) -> frozenset[str]:
        """Those of some examples whose logits are there."""
        return frozenset(i for i in ids if _digest(i) in self._row)

    def forget(self, ids: Iterable[str]) -> None:
        """Delete the logits of these examples; ids without any are passed over."""
        gone = {_digest(example_id) for example_id in ids}
        kept = [digest for digest in self._row if digest not in gone]
        self._logits_NV = self._logits_NV[[self._row[digest] for digest in kept]]
        self._row = {digest: row for row, digest in enumerate(kept)}
        _write(self._file, kept, self._logits_NV)


def cache_logits(model: nn.Module, sets: Mapping[str, ClassSet], folder: Path, *, batch_size: int) -> CachedLogits:
    """The logits of all sets, taken from the folder when they are there.

    Args:
        model: before its first step.
        sets: an id that several share counts once.
        folder: created if need be.
        batch_size: images per forward pass.
    """
    parts, seen = [], set[str]()
    for examples in sets.values():
        parts.append(examples.subset(set(examples.ids) - seen))
        seen.update(examples.ids)
    digests = [_digest(example_id) for part in parts for example_id in part.ids]
    if _digests_in(folder / LOGITS_FILE) != digests:
        folder.mkdir(parents=True, exist_ok=True)
        found = [class_logits(model, part, batch_size=batch_size) for part in parts if len(part)]
        _write(folder / LOGITS_FILE, digests, torch.cat(found))
    return CachedLogits(folder)


def _digests_in(file: Path) -> list[str]:
    if not file.is_file():
        return []
    with safe_open(file, framework="pt") as opened:
        found: list[str] = parse_json(opened.metadata()["ids"])
    return found


def _write(file: Path, digests: list[str], logits_NV: Tensor) -> None:
    save_sealed({"logits_NV": logits_NV}, file, {"ids": json.dumps(digests)})


def _digest(example_id: str) -> str:
    """No id is written down, because it may name a person."""
    return hashlib.sha256(example_id.encode()).hexdigest()
