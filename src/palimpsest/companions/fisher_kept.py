"""The diagonal of the Fisher information of what a version learned last: which of its weights that depends on.

One safetensors file, a tensor for every weight, with the marks of the rows that it was taken at. It is of the
weights of one version, so a run that moves them and does not take it anew leaves it behind. One row that is
forgotten drops it whole: squared gradients of a row cannot be taken off without the row and the weights of then.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from palimpsest.companions.companion import Change, Companion, Forgotten, Held, bytes_in, damaged
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.marks import own_key
from palimpsest.models.deciding import file_digest
from palimpsest.models.sealed import damage_of, is_sound, save_sealed
from palimpsest.untrusted import parse_json

_FILE = "fisher.safetensors"


class KeptFisher(Companion):
    """Squared gradients, of one version."""

    kind = "fisher"

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those that it was taken at."""
        marks = set(self._marks())
        return self.key.known(ids, marks)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Drop it where it was taken at one of these rows."""
        held = self.holds(ids)
        if not held:
            return Forgotten()
        _write(self.folder, {}, ())
        return Forgotten(held, 1, "what is learned next is averaged by the share alone")

    def take_up(self, run: Path) -> None:
        """What the run took is of the version that it made."""
        place = run / RECORDING / self.kind / _FILE
        if place.is_file():
            found = KeptFisher.open(place.parent, self.key)
            _write(self.folder, found.tensors(), found._marks())

    def stale_after(self, change: Change) -> str:
        """It is of the weights as they were."""
        return "" if self.kind in change.recorded or not change.steps else f"{change.method} moved the weights"

    def tensors(self) -> Mapping[str, Tensor]:
        """Name of a weight -> its Fisher.

        Raises:
            ModelError: the file is damaged.
        """
        path = self.folder / _FILE
        if not path.is_file():
            return {}
        if not is_sound(path):
            raise damaged(path)
        found: dict[str, Tensor] = load_file(path)
        return found

    def _marks(self) -> tuple[str, ...]:
        path = self.folder / _FILE
        if not path.is_file():
            return ()
        try:
            with safe_open(path, framework="pt") as file:
                return tuple(map(str, parse_json(file.metadata()["who"])))
        except (SafetensorError, OSError, ValueError, LookupError, TypeError):
            raise damaged(path) from None

    def digest(self) -> str:
        """Of the file."""
        return file_digest(self.folder / _FILE)

    def damage(self) -> str:
        """The file, where it is not as it was written."""
        return damage_of(self.folder / _FILE)

    def held(self) -> Held:
        """A tensor is a record."""
        return Held(len(self._marks()), len(self.tensors()), bytes_in(self.folder))


def known_fisher(companions: Mapping[str, Companion]) -> Mapping[str, Tensor]:
    """That beside the version that a run starts from; nothing where it has none."""
    found = companions.get(KeptFisher.kind)
    return found.tensors() if isinstance(found, KeptFisher) else {}


def record_fisher(folder: Path | None, fisher: Mapping[str, Tensor], ids: Collection[str]) -> None:
    """Keep what a run took in its folder, until the version is whole.

    Args:
        folder: of the run's recordings; None keeps nothing.
        fisher: of the weights as they will be saved.
        ids: of the rows.
    """
    key = own_key()
    if folder is not None and key is not None:
        _write(folder / KeptFisher.kind, fisher, sorted(map(key.of_id, ids)))


def _write(folder: Path, fisher: Mapping[str, Tensor], who: Collection[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_sealed(fisher, folder / _FILE, {"who": json.dumps(list(who))})


COMPANION = KeptFisher
