"""What a history kept beside a version must be able to do: say whom it holds, and forget them.

A companion belongs to a version and is no part of it: the version's digest and its manifest do not cover it, because a
purge must be able to change it. It lies in the version's folder under ``companion/<kind>/``. It knows examples by the
marks of their ids alone (``marks.py``), so that who finds the folder cannot tell whom it holds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

from palimpsest.companions.marks import MarkKey
from palimpsest.errors import ModelError

KeyedBy = Literal["example", "class", "client"]


class Forgotten(NamedTuple):
    """What a purge took out.

    Attributes:
        ids: that were held, and no longer are.
        records: pieces of history that went with them.
        stale: what became unusable with it, in words; "" where nothing did.
    """

    ids: frozenset[str] = frozenset()
    records: int = 0
    stale: str = ""


class Held(NamedTuple):
    """How much is kept.

    Attributes:
        examples: how many different ones (classes, clients) it knows.
        records: pieces of history.
        size: bytes on the disk.
    """

    examples: int
    records: int
    size: int


@dataclass(frozen=True)
class Change:
    """What a run did to the version that a companion lies beside.

    Attributes:
        method: its name.
        model: digest of the version that it made.
        forgotten: ids of its forget set.
        steps: optimizer steps that moved the weights; 0 of an edit.
        recorded: kinds that the run itself went on writing.
        reads: kinds that its method reads.
    """

    method: str
    model: str
    steps: int
    forgotten: frozenset[str] = frozenset()
    recorded: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()


class Companion:
    """One kind of history. Subclass it in ``companions/<file>.py`` and set ``COMPANION``.

    Class attributes, written as plain values (the registry reads them in the file without running it):
        kind: its name in plans and commands, and its folder.
        keyed_by: what it knows its owners by.
        within: where it lies in the folder of a version; "" is the usual place, ``companion/<kind>``.
        handed_on: a run hands it on to the version that it makes; what belongs to one run alone is not.
        brings_back: something of a row can be got back from it; else it only tells who was there.
    """

    kind: ClassVar[str]
    keyed_by: ClassVar[KeyedBy] = "example"
    within: ClassVar[str] = ""
    handed_on: ClassVar[bool] = True
    brings_back: ClassVar[bool] = True

    def __init__(self, folder: Path, key: MarkKey) -> None:
        self.folder = folder
        self.key = key

    @classmethod
    def open(cls, folder: Path, key: MarkKey) -> Self:
        """What is kept in a folder; one that is not there is an empty history.

        Args:
            folder: place of this kind (``companions.companion_place``).
            key: that the marks are made with.

        Raises:
            ModelError: it is damaged, or was made with another key.
        """
        return cls(folder, key)

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those of some ids that can still be brought back, or recognised, from here."""
        raise NotImplementedError

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Delete all that is of these ids; durable when it returns. Ids that it does not hold are passed over."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256 of what is kept, wherever the folder lies."""
        raise NotImplementedError

    def held(self) -> Held:
        """How much is kept."""
        raise NotImplementedError

    def check_whole(self, model: str, where: str) -> None:
        """Refuse a history that a method cannot work with; default: any will do.

        Args:
            model: digest of the version that it lies beside.
            where: the version, in words.

        Raises:
            ModelError: something is missing, or belongs to another version.
        """

    def damage(self) -> str:
        """What of it is missing or damaged, in words; "" where all is there as it was written."""
        return ""

    def check_covers(self, ids: Collection[str], where: str) -> None:
        """Refuse rows to forget that it knows too little of; default: none.

        Raises:
            DataError: how many rows, and the first.
        """

    def stale_after(self, change: Change) -> str:
        """Why it is of no use beside the version that a run made, in words; "" = it is, and is handed on."""
        return ""

    def take_up(self, run: Path) -> None:
        """Add what a run recorded in its folder to the history that it hands on; default: it wrote it here itself."""

    def passed_on(self, change: Change) -> Forgotten:
        """It is a copy beside the version that a run made: forget what that forgot; durable when it returns."""
        return self.forget(change.forgotten)


def bytes_in(folder: Path) -> int:
    """Of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def damaged(path: Path) -> ModelError:
    """What to raise of a file of a history that cannot be read, where the history can be done without."""
    return ModelError(f"{path} is damaged; delete {path.parent} to go on without it")
