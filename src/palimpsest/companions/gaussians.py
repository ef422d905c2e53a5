"""Means and covariances of what entered the head, class by class, as it was when the class was learned.

For learners that move the backbone, so that what entered the head then can never be computed again: a row cannot be
taken off its class. One row that is forgotten drops the whole class, with the marks of all its rows; the head may
know the class still, but nothing is drawn of it any more. (Exact deletion of rows needs a backbone that stands
still: there ``class_statistics`` is additive.) That the backbone moves on does not make it stale, because it always
does.

One safetensors file: of every class mean and covariance, and in the metadata its task and the marks of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from safetensors import SafetensorError, safe_open

from palimpsest.companions.companion import Companion, Forgotten, Held, bytes_in, damaged
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.marks import MarkKey, check_key, own_key
from palimpsest.models.class_gaussians import ClassGaussian, Gaussians
from palimpsest.models.deciding import file_digest
from palimpsest.models.sealed import damage_of, save_sealed
from palimpsest.untrusted import parse_json

_FILE = "gaussians.safetensors"


class KeptClass(NamedTuple):
    """One class and whose it is.

    Attributes:
        gaussian: of the class.
        who: marks of its rows.
    """

    gaussian: ClassGaussian
    who: tuple[str, ...]


class ClassGaussians(Companion):
    """The classes that a version drew when it learned them."""

    kind = "class_gaussians"

    @classmethod
    def open(cls, folder: Path, key: MarkKey) -> Self:
        """Those in a folder; none where it is not there.

        Raises:
            ModelError: they are damaged, or were made with another key.
        """
        found = cls(folder, key)
        found.classes()
        return found

    def classes(self) -> dict[int, KeptClass]:
        """Row of the head -> what is kept of it.

        Raises:
            ModelError: it is damaged, or was made with another key.
        """
        path = self.folder / _FILE
        return _read(path, self.key) if path.is_file() else {}

    @property
    def gaussians(self) -> Gaussians:
        """Row of the head -> its class."""
        return {label: kept.gaussian for label, kept in self.classes().items()}

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those that a class was estimated from."""
        marks = {mark for kept in self.classes().values() for mark in kept.who}
        return self.key.known(ids, marks)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Drop every class that one of these rows is in."""
        classes, held, marks = self.classes(), self.holds(ids), self.key.of_ids(ids)
        left = {label: kept for label, kept in classes.items() if not marks & set(kept.who)}
        if not held:
            return Forgotten()
        _write(self.folder, left, self.key)
        gone = len(classes) - len(left)
        what = f"{gone} class{'es' * (gone != 1)}"
        return Forgotten(held, gone, f"{what} will not be rehearsed any more when further ones are learned")

    def take_up(self, run: Path) -> None:
        """Add the classes that a run learned; of one that it learned again what it found takes the place."""
        found = ClassGaussians.open(run / RECORDING / self.kind, self.key).classes()
        if found:
            _write(self.folder, {**self.classes(), **found}, self.key)

    def digest(self) -> str:
        """Of the file."""
        return file_digest(self.folder / _FILE)

    def damage(self) -> str:
        """The file, where it is not as it was written."""
        return damage_of(self.folder / _FILE)

    def held(self) -> Held:
        """A class is a record."""
        classes = self.classes()
        return Held(len({mark for kept in classes.values() for mark in kept.who}), len(classes), bytes_in(self.folder))


def known_gaussians(companions: Mapping[str, Companion]) -> Gaussians:
    """Those beside the version that a run starts from; none where it has none."""
    found = companions.get(ClassGaussians.kind)
    return found.gaussians if isinstance(found, ClassGaussians) else {}


def record_gaussians(folder: Path | None, gaussians: Gaussians, rows: Mapping[int, Collection[str]]) -> None:
    """Keep the classes of a run in its folder, until the version is whole.

    Args:
        folder: of the run's recordings; None keeps nothing.
        gaussians: of the classes that it learned.
        rows: class -> ids of the rows that it was estimated from.
    """
    key = own_key()
    if folder is None or key is None:  # without a key nobody could be told apart, so nothing is kept of anybody
        return
    classes = {
        label: KeptClass(found, tuple(sorted(map(key.of_id, rows[label])))) for label, found in gaussians.items()
    }
    _write(folder / ClassGaussians.kind, classes, key)


def _write(folder: Path, classes: Mapping[int, KeptClass], key: MarkKey) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{label}/mean": kept.gaussian.mean_D for label, kept in classes.items()}
    tensors |= {f"{label}/covariance": kept.gaussian.covariance_DD for label, kept in classes.items()}
    said = {str(label): {"task": kept.gaussian.task, "who": kept.who} for label, kept in classes.items()}
    metadata = {"record": json.dumps({"key": key.name, "classes": said}, sort_keys=True)}
    save_sealed(tensors, folder / _FILE, metadata)


def _read(path: Path, key: MarkKey) -> dict[int, KeptClass]:
    try:
        with safe_open(path, framework="pt") as file:
            said: Any = parse_json(file.metadata()["record"])
            found = {
                int(label): KeptClass(
                    ClassGaussian(
                        file.get_tensor(f"{label}/mean"), file.get_tensor(f"{label}/covariance"), int(of["task"])
                    ),
                    tuple(map(str, of["who"])),
                )
                for label, of in said["classes"].items()
            }
            name = str(said["key"])
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError):
        raise damaged(path) from None
    check_key(path.parent, name, key)
    return found


COMPANION = ClassGaussians
