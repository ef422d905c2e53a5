"""Clients of a workbench behind Flower: each process lays the same model on a bench of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid
from torch import Tensor

from palimpsest.engine.plan import Plan
from palimpsest.federated.at_work import Serve
from palimpsest.federated.flower.client_app import Node
from palimpsest.federated.flower.grid_clients import TIMEOUT, GridClients
from palimpsest.federated.flower.hello import Hello
from palimpsest.federated.flower.simulation import simulated
from palimpsest.federated.local import LocalClients
from palimpsest.federated.workbench import Workbench
from palimpsest.models.load import source_digest


@dataclass(frozen=True)
class SimulatedBench:
    """What a process of the simulation needs to work as any of the clients; calling it makes the client.

    Attributes:
        plan: of the local work, as JSON.
        sets: client -> {"learn": its encoded rows}.
        folder: for what local work writes meanwhile.
        model: digest of the model.
        secret: all take part in secure aggregation.
    """

    plan: str
    sets: dict[str, Any]
    folder: str
    model: str
    secret: bool = False

    def __call__(self, client: str) -> Node:
        """A client, on the bench of this process."""
        bench = empty_bench(self.plan, self.folder)
        place = bench.folder / f"node-{sorted(self.sets).index(client)}"
        own = bench._replace(sets={client: self.sets[client]}, folder=place)
        return Node(Hello(client, self.model, len(self.sets[client]["learn"])), LocalClients(own), self.secret)


@lru_cache(maxsize=1)
def empty_bench(plan: str, folder: str) -> Workbench:
    """The model of a plan with its scope applied, once for all clients of a process; it has no rows."""
    return Workbench.opened(Plan.model_validate_json(plan), {}, Path(folder), threads=1)


def through_simulation(
    bench: Workbench, serve: Serve, secret: bool = False, timeout: float = TIMEOUT
) -> dict[str, Tensor]:
    """Serve the clients of a workbench in the processes of Flower's simulation.

    Args:
        bench: of this process; its rows are handed to the others.
        serve: carries the procedure out.
        secret: by secure aggregation.
        timeout: seconds after which a client is given up in a round.
    """
    names, model = tuple(sorted(bench.sets)), source_digest(bench.plan.model, bench.plan.revision)
    sets = {name: dict(own) for name, own in bench.sets.items()}
    node_of = SimulatedBench(bench.plan.model_dump_json(), sets, str(bench.folder), model, secret)
    return simulated(names, node_of, lambda grid: serve(grid_clients(grid, names, model, secret, timeout)))


def grid_clients(grid: Grid, names: tuple[str, ...], model: str, secret: bool, timeout: float = TIMEOUT) -> GridClients:
    """Clients behind a grid, openly or by secure aggregation."""
    if not secret:
        return GridClients(grid, names, model, timeout)
    from palimpsest.federated.flower.secret_sum import SecretClients

    return SecretClients(grid, names, model, timeout)
