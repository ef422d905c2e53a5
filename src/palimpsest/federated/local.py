"""Clients of a federation in this process, one after the other on one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from palimpsest.companions.round_record import Absent, Reply
from palimpsest.errors import LostFolder
from palimpsest.federated.procedure import Errand
from palimpsest.federated.work import local_work_of
from palimpsest.federated.workbench import Workbench
from palimpsest.untrusted import reason_of

AtWork = Callable[[int, str], None]
"""Called with the number of a round and the client that begins to work."""


class LocalClients:
    """All clients of a workbench."""

    def __init__(self, bench: Workbench, at_work: AtWork = lambda number, client: None) -> None:
        self.bench, self.at_work = bench, at_work

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted(self.bench.sets))

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        """One after the other; one that fails is absent, and the others are asked all the same."""
        work = local_work_of(errand.what)
        for client in errand.who:
            self.at_work(number, client)
            if client not in self.bench.sets:
                yield Absent(client, "is not there")
                continue
            try:
                yield work(self.bench, client, errand, number)
            except (LostFolder, MemoryError):
                raise
            except Exception as error:  # whatever a client fails by, the federation goes on without it
                yield Absent(client, reason_of(error))
