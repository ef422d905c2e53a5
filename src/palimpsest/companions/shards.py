"""What the adapters of each shard were after each slice, so that a row can be unlearned from before it was seen.

Source: Bourtoule et al. 2021, "Machine Unlearning", arXiv:1912.03817, section IV-B, on slicing.

A folder of one safetensors file for each slice of each shard, and ``index.json``: the recipe that they were learned by,
the version that bears the last of them, and for each slice its file, the digest of it, and the marks of its rows. A
checkpoint after slice j tells of all rows of slices up to j. A purge deletes the files first and writes the index then:
who dies in between has rows that are still reported as held, and a second purge ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from palimpsest.companions.companion import Change, Companion, Forgotten, Held, bytes_in
from palimpsest.companions.marks import MarkKey, check_key
from palimpsest.durable import check_held_still, put_copy
from palimpsest.errors import DataError, ModelError
from palimpsest.in_words import so_many
from palimpsest.models.deciding import file_digest
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.records import digest

SHARD_INDEX = "index.json"
RECORDED_SHARDS = "recording/shards"  # in the folder of a run


class SliceRecord(NamedTuple):
    """One slice of a shard.

    Attributes:
        who: marks of the rows that it brought.
        file: with the adapters after it; "" where nothing was learned yet, or it was deleted.
        sha256: of the file.
    """

    who: tuple[str, ...]
    file: str = ""
    sha256: str = ""


class ShardIndex(NamedTuple):
    """All slices of all shards.

    Attributes:
        key: name of the key that the marks were made with.
        model: digest of the version that bears what came out.
        recipe: how it was cut and learned.
        shards: of each its slices.
    """

    key: str
    model: str
    recipe: Mapping[str, Any]
    shards: tuple[tuple[SliceRecord, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**self._asdict(), "shards": [[one._asdict() for one in shard] for shard in self.shards]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of ``to_json``."""
        shards = tuple(tuple(map(_slice_from, shard)) for shard in value["shards"])
        return cls(str(value["key"]), str(value["model"]), dict(value["recipe"]), shards)

    def slices(self) -> Iterator[tuple[int, int, SliceRecord]]:
        """Every slice with the numbers of its shard and of itself."""
        return ((s, j, one) for s, shard in enumerate(self.shards) for j, one in enumerate(shard))


def _slice_from(value: Mapping[str, Any]) -> SliceRecord:
    return SliceRecord(tuple(map(str, value["who"])), str(value["file"]), str(value["sha256"]))


def first_slices(places: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Shard -> the first of its slices among some places.

    >>> first_slices([(0, 2), (1, 1), (0, 1)])
    {0: 1, 1: 1}
    """
    found: dict[int, int] = {}
    for shard, piece in places:
        found[shard] = min(piece, found.get(shard, piece))
    return found


def checkpoint_name(shard: int, piece: int) -> str:
    """File of the adapters of a shard after a slice, counted from 0; named as people count.

    >>> checkpoint_name(0, 2)
    'shard-001-slice-003.safetensors'
    """
    return f"shard-{shard + 1:03}-slice-{piece + 1:03}.safetensors"


class Shards(Companion):
    """Checkpoints by slice, and whose rows each has seen."""

    kind = "shards"

    @classmethod
    def open(cls, folder: Path, key: MarkKey) -> Self:
        """The checkpoints in a folder; none where it is not there.

        Raises:
            ModelError: the index is damaged, or was made with another key.
        """
        found = cls(folder, key)
        check_key(folder, found.index.key, key, whose="slices")
        return found

    @cached_property
    def index(self) -> ShardIndex:
        """Which slices there are, and whose."""
        path = self.folder / SHARD_INDEX
        if not path.is_file():
            return ShardIndex(self.key.name, "", {}, ())
        try:
            return ShardIndex.from_json(read_sealed(path))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise ModelError(f"{path} is damaged: bring it back, or learn again with --method sisa") from None

    def place_of(self, ids: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Id -> numbers of its shard and slice, of those that were learned."""
        there = {mark: (shard, piece) for shard, piece, one in self.index.slices() for mark in one.who}
        marks = {i: self.key.of_id(i) for i in ids}
        return {i: there[mark] for i, mark in marks.items() if mark in there}

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those that a slice brought."""
        return frozenset(self.place_of(ids))

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Delete every checkpoint that saw one of these ids, and their marks."""
        places = self.place_of(ids)
        first = first_slices(places.values())
        doomed = [one.file for s, j, one in self.index.slices() if j >= first.get(s, j + 1) and one.file]
        for name in doomed:
            (self.folder / name).unlink(missing_ok=True)
        if places:
            self.write(self._without(self.key.of_ids(places), set(doomed)))
        stale = f"a later request in {so_many(len(first), 'shard')} goes back to before them"
        return Forgotten(frozenset(places), len(doomed), stale if doomed else "")

    def _without(self, marks: Collection[str], files: Collection[str]) -> ShardIndex:
        def left(one: SliceRecord) -> SliceRecord:
            who = tuple(mark for mark in one.who if mark not in marks)
            return SliceRecord(who) if one.file in files else one._replace(who=who)

        return self.index._replace(shards=tuple(tuple(map(left, shard)) for shard in self.index.shards))

    def digest(self) -> str:
        """Of the index, which has the digest of every file."""
        return digest(self.index.to_json())

    def held(self) -> Held:
        """Rows, checkpoints and bytes."""
        slices = [one for _, _, one in self.index.slices()]
        return Held(sum(len(one.who) for one in slices), sum(bool(one.file) for one in slices), bytes_in(self.folder))

    def check_whole(self, model: str, where: str) -> None:
        """Refuse checkpoints of other weights than those beside them.

        Raises:
            ModelError: they are.
        """
        if self.index.model != model:
            raise ModelError(
                f"the shards of {where} are of other weights than those beside them; give the folder as its run left "
                "it, or learn again with --method sisa"
            )

    def check_covers(self, ids: Collection[str], where: str) -> None:
        """Refuse rows that no shard learned.

        Raises:
            DataError: how many, and the first.
        """
        strangers = sorted(set(ids) - self.holds(ids))
        if strangers:
            raise DataError(
                f"{len(strangers)} of {so_many(len(set(ids)), 'row')} to forget are in no shard of {where} (first: "
                f"{strangers[0]!r}); give rows that it learned with --method sisa"
            )

    def checkpoint(self, shard: int, piece: int) -> Path | None:
        """The file after a slice; None where nothing was learned by then.

        Raises:
            ModelError: it is missing or damaged.
        """
        one = self.index.shards[shard][piece]
        path = self.folder / one.file
        if not any(earlier.who for earlier in self.index.shards[shard][: piece + 1]):
            return None
        if one.file and path.is_file() and file_digest(path) == one.sha256:
            return path
        what = "damaged" if one.file and path.exists() else "missing"
        raise ModelError(
            f"the checkpoint after slice {piece + 1} of shard {shard + 1} ({path}) is {what}; bring it back, or have "
            "the shard learned anew from its first slice: --set sisa.from_base=true"
        )

    def stale_after(self, change: Change) -> str:
        """Whatever moves the weights otherwise leaves adapters that are not those of the version."""
        if self.kind in change.recorded:
            return ""
        return f"{change.method} changed what the shards had learned"

    def take_up(self, run: Path) -> None:
        """Put what the run learned in the place of what was here; of the files here those stay that still count."""
        recorded = run / RECORDED_SHARDS
        if not (recorded / SHARD_INDEX).is_file():
            return
        index = ShardIndex.from_json(read_sealed(recorded / SHARD_INDEX))
        self.folder.mkdir(parents=True, exist_ok=True)
        check_held_still(self.folder)
        wanted = {one.file for _, _, one in index.slices() if one.file}
        for name in wanted:
            if (recorded / name).is_file():
                put_copy(recorded / name, self.folder / name)
        for path in self.folder.glob("*.safetensors"):
            if path.name not in wanted:
                path.unlink()
        self.write(index)

    def passed_on(self, change: Change) -> Forgotten:
        """What the run forgot is in nothing that it took up; the index says whose weights lie beside it."""
        found = self.forget(change.forgotten)
        self.write(self.index._replace(model=change.model))
        return found

    def write(self, index: ShardIndex) -> None:
        """Put a new index in place of the one that is there; on return it is on the disk."""
        write_sealed(self.folder / SHARD_INDEX, index.to_json())
        self.__dict__["index"] = index


def recorded_by(folder: Path, recipe: Mapping[str, Any], key: MarkKey, shards: Sequence[Sequence[SliceRecord]]) -> None:
    """Write what a run learned in its folder, until the version is whole.

    Args:
        folder: of the run.
        recipe: how it was cut and learned.
        key: of the marks.
        shards: of each its slices; files that lie beside this index, or that the start of the run has.
    """
    index = ShardIndex(key.name, "", dict(recipe), tuple(map(tuple, shards)))
    write_sealed(folder / RECORDED_SHARDS / SHARD_INDEX, index.to_json())


COMPANION = Shards
