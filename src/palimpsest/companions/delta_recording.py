"""Records of a run that is not over: written as the steps go, counted as the run goes back and forth.

A run under control takes rounds back, and a killed one goes on from its last checkpoint. So the numbers of the records
that count are a part of the run's state, no record is deleted before the run has ended, and no number is given twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from torch import Tensor

from palimpsest.companions.delta_format import KeptTensors
from palimpsest.companions.delta_record import (
    delta_stamp,
    layout_from,
    layout_name,
    layout_to_json,
    record_name,
    records_in,
    write_delta,
)
from palimpsest.durable import flush
from palimpsest.errors import ModelError
from palimpsest.models.sealed_json import read_sealed, write_sealed

RECORDING = "recording"  # folder in that of a run, for what it has not yet handed on
LIVE = "live.json"
_MOST_PENDING = 2**26  # bytes


class DeltaRecording:
    """The records of one run.

    Attributes:
        live: numbers of those that count, in the order of the steps.
    """

    def __init__(self, folder: Path, places: KeptTensors) -> None:
        """Records go into a folder, made when there are any."""
        self._folder, self._places = folder, tuple(places)
        self._layout = layout_name(self._places)
        self._next = max((int(path.stem) for path in records_in(folder)), default=-1) + 1
        self._pending: dict[int, tuple[dict[str, Tensor], frozenset[str]]] = {}
        self._everyone: set[str] = set()
        self.live: list[int] = []

    @property
    def everyone(self) -> frozenset[str]:
        """Marks of all whose steps count."""
        return frozenset(self._everyone)

    def add(self, tensors: dict[str, Tensor], who: Collection[str]) -> None:
        """One more record, on the disk by the next ``flush``."""
        self._pending[self._next] = tensors, frozenset(who)
        self._everyone |= set(who)
        self.live.append(self._next)
        self._next += 1
        if sum(t.nbytes for kept, _ in self._pending.values() for t in kept.values()) > _MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Have every record on the disk."""
        if not self._pending:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for number, (tensors, who) in self._pending.items():
            write_delta(self._folder / record_name(number), tensors, who, self._layout)
        for path in (*(self._folder / record_name(number) for number in self._pending), self._folder):
            flush(path)  # after all were written: the disk has them in one go
        self._pending.clear()

    def back_to(self, live: Iterable[int]) -> None:
        """Count these records alone.

        Raises:
            ModelError: one of them is not there.
        """
        self.flush()
        self.live, self._everyone = list(live), set()
        for number in self.live:
            place = self._folder / record_name(number)
            stamp = delta_stamp(place)
            if stamp is None:
                raise ModelError(
                    f"{place} of the unfinished run is missing or damaged; `palimpsest clean` removes the run, to "
                    "start it again"
                )
            self._everyone |= stamp.who

    def close(self) -> None:
        """Write down which records count."""
        self.flush()
        self._folder.mkdir(parents=True, exist_ok=True)
        values = {"live": self.live, "layout": layout_to_json(self._places)}
        write_sealed(self._folder / LIVE, values)


def recorded_in(folder: Path) -> tuple[list[Path], dict[str, KeptTensors]]:
    """The records that count once a run has ended, and the layout that they were packed by.

    Args:
        folder: of its recording; not there, nothing was recorded.
    """
    if not (folder / LIVE).is_file():
        return [], {}
    values = read_sealed(folder / LIVE)
    places = layout_from(values["layout"])
    return [folder / record_name(number) for number in values["live"]], {layout_name(places): places}
