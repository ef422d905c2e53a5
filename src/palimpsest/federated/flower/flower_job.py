"""One call of ``federate`` or ``erase_client`` as a file: Flower's server app makes it in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from flwr.serverapp import Grid
from torch import Tensor

from palimpsest import errors
from palimpsest.engine.given import Manner
from palimpsest.errors import PalimpsestError, RunError
from palimpsest.federated.at_work import Serve
from palimpsest.federated.flower.benches import grid_clients
from palimpsest.federated.flower.grid_clients import TIMEOUT
from palimpsest.federated.flower.layout_said import said_layout
from palimpsest.federated.going_through import combining_of
from palimpsest.federated.workbench import Workbench
from palimpsest.files import write_atomic
from palimpsest.models.sources import source_digest
from palimpsest.printed import as_line

TOLD, ENDED = "told.jsonl", "ended.json"
"""Files beside the job: progress, a line each; and how it ended."""


class FlowerJob(NamedTuple):
    """A call, with values that JSON can say.

    Attributes:
        place: its file.
        verb: "federate" or "erase_client".
        arguments: in order.
        options: by name, without manner and how.
        how: fields of ``Federating``; the layout as text, the combining as a mapping.
        output: folder that will hold the model.
        threads: CPU threads of the server.
        where: working directory, in which places are to be read.
    """

    place: Path
    verb: str
    arguments: list[Any]
    options: dict[str, Any]
    how: dict[str, Any]
    output: str
    threads: int | None
    where: str

    def write(self) -> None:
        """Put it where the server app finds it."""
        write_atomic(self.place, json.dumps({**self._asdict(), "place": str(self.place)}, default=str))

    @classmethod
    def read(cls, place: Path) -> FlowerJob:
        """What was written."""
        return cls(**{**json.loads(place.read_text(encoding="utf-8")), "place": place})

    def serve(self, grid: Grid) -> None:
        """Make the call with the clients behind a grid; how it ended is left in a file, whatever it was."""
        from palimpsest.federated import federate

        os.chdir(self.where)
        self.how["layout"] = said_layout(self.how["layout"])
        self.how["combining"] = combining = combining_of(self.how["combining"])
        through = partial(through_grid, grid, combining.secret, self.how["timeout"] or TIMEOUT)
        how = federate.Federating(**{**self.how, "way": "here", "timeout": None, "through": through})
        manner = Manner(Path(self.output), self._tell, self.threads)
        verb = {"federate": federate.federate, "erase_client": federate.erase_client}[self.verb]
        try:
            verb(*self.arguments, manner, **self.options, how=how)  # type: ignore[operator]
            ended: dict[str, str] = {}
        except PalimpsestError as error:
            ended = {"kind": type(error).__name__, "said": str(error)}
        except Exception as error:
            ended = {"kind": "RunError", "said": as_line(f"{type(error).__name__}: {error}")}
        write_atomic(self.place.with_name(ENDED), json.dumps(ended))

    def _tell(self, stage: str, done: int, total: int, note: str = "") -> None:
        with self.place.with_name(TOLD).open("a", encoding="utf-8") as file:
            file.write(json.dumps([stage, done, total, note]) + "\n")

    def outcome(self) -> bool:
        """Has it ended well? False while it has not ended.

        Raises:
            PalimpsestError: what the call raised there.
        """
        ended = self.place.with_name(ENDED)
        if not ended.exists():
            return False
        found = json.loads(ended.read_text(encoding="utf-8"))
        if found:
            raise _error_of(found)
        return True


def _error_of(found: Mapping[str, str]) -> PalimpsestError:
    kind = getattr(errors, found["kind"], RunError)
    plain = isinstance(kind, type) and issubclass(kind, PalimpsestError) and kind.__init__ is Exception.__init__
    return kind(found["said"]) if plain else RunError(found["said"])


def through_grid(grid: Grid, secret: bool, timeout: float, bench: Workbench, serve: Serve) -> dict[str, Tensor]:
    """Serve the clients behind a grid that is there already."""
    names, model = tuple(sorted(bench.sets)), source_digest(bench.plan.model, bench.plan.revision)
    return serve(grid_clients(grid, names, model, secret, timeout))
