"""What is kept beside a version so that it can be deleted from later: list it, ask it, purge it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from palimpsest import companions
from palimpsest.companions.marks import KEY_VARIABLE, MarkKey, key_file, own_key
from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout, Source
from palimpsest.durable import held
from palimpsest.errors import DataError, PlanError, reachable
from palimpsest.models.sources import family_of

if TYPE_CHECKING:
    from palimpsest.companions.companion import Companion


_OF_ONE = ("config.json", "adapter_config.json", "plan.json")  # one of them lies in every folder of a model or a run


class HistoryRow(NamedTuple):
    """One kind of history.

    Attributes:
        kind: its name.
        keyed_by: what it knows its owners by.
        examples: how many different owners it knows.
        records: pieces.
        size: bytes.
        brings_back: something of a row can be got back from it; else it only tells who was there.
        holds: ids of the rows asked about that it holds; None where none were.
        removed: records that a purge took out.
        note: what became unusable with them.
        damage: what is missing or damaged, so that no method can work with it; "" where all is there.
    """

    kind: str
    keyed_by: str
    examples: int
    records: int
    size: int
    brings_back: bool
    holds: tuple[str, ...] | None = None
    removed: int = 0
    note: str = ""
    damage: str = ""


class Histories(NamedTuple):
    """What ``histories`` found.

    Attributes:
        folder: of the version.
        rows: a kind each.
        asked: rows that it was asked about.
        purged: what they were in is deleted.
    """

    folder: str
    rows: tuple[HistoryRow, ...]
    asked: int = 0
    purged: bool = False

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**self._asdict(), "rows": [row._asdict() for row in self.rows]}


def histories(
    folder: str | Path, *, holds: Source | None = None, forget: Source | None = None, yes: bool = False
) -> Histories:
    """List what is kept beside a version, say which rows can still be brought back from it, and purge them if told to.

    A purge leaves the model as it is, and its record of what was learned (``learned.json``), which brings nothing back.

    Args:
        folder: of a finished run, or of an unfinished one.
        holds: rows to ask about, in any form that ``learn`` takes.
        forget: rows to purge; asked about, and deleted with ``yes``.
        yes: delete.

    Raises:
        DataError: there is no such folder, no model and no run in it, or the rows cannot be read.
        PlanError: both kinds of rows were given, none to purge, or another process is at work in the folder.
        ModelError: a history is damaged, or was made with another key.
    """
    version = _version_in(folder)
    if yes and forget is None:
        raise PlanError("--yes purges the rows of --forget DATA, and none were given; nothing was purged")
    ids = _asked_about(version, holds, forget)
    key = own_key()
    if key is None and companions.kinds_in(version):
        raise PlanError(f"{key_file()} cannot be written; set {KEY_VARIABLE} to the key of these histories")
    purge = forget is not None and yes
    with held(version) as free:
        if purge and not free:
            raise PlanError(f"another process is at work in {folder}; wait for it, and purge then")
        rows = tuple(_rows(version, key, ids, purge=purge)) if key is not None else ()
    return Histories(str(folder), rows, len(ids or ()), purge)


def _version_in(folder: str | Path) -> Path:
    """The folder of a version or of a run."""
    version = Path(reachable(folder, "model")).expanduser()
    if not version.is_dir():
        raise DataError(f"{folder} is no folder; give the folder of a finished run")
    if not any((version / name).is_file() for name in _OF_ONE) and not companions.kinds_in(version):
        raise DataError(f"{folder} holds no model and no run; give the folder of a finished run")
    return version


def _asked_about(version: Path, holds: Source | None, forget: Source | None) -> list[str] | None:
    """Ids of the rows that were given; None where none were."""
    if holds is not None and forget is not None:
        raise PlanError("--holds and --forget were both given; give the rows to ask about, or those to purge")
    given = forget if holds is None else holds
    layout = family_of(version).layout(Layout())  # ids that rows do not give follow from how these are read
    return None if given is None else [row.id for row in read_rows(given, layout, name="rows").examples]


def _rows(version: Path, key: MarkKey, ids: Sequence[str] | None, *, purge: bool) -> Iterator[HistoryRow]:
    for companion in companions.opened(version, key):
        holds = None if ids is None else tuple(sorted(companion.holds(ids)))
        yield _row(companion, holds, ids if purge and companion.brings_back else ())


def _row(companion: Companion, holds: tuple[str, ...] | None, doomed: Sequence[str] | None) -> HistoryRow:
    gone = companion.forget(doomed) if doomed else None
    kept = companion.held()
    damage = companion.damage()
    row = HistoryRow(companion.kind, companion.keyed_by, *kept, companion.brings_back, holds, damage=damage)
    return row if gone is None else row._replace(removed=gone.records, note=gone.stale)
