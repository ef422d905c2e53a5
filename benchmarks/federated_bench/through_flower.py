"""The clients of ``digits.py`` behind Flower's simulation: processes of Ray, messages between them and the server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from federated_bench.digits import World, rows_of_world, world_of
from federated_bench.plain import seconds_now
from palimpsest.companions.round_record import Absent, Reply
from palimpsest.federated.flower.client_app import Node
from palimpsest.federated.flower.grid_clients import GridClients
from palimpsest.federated.flower.hello import Hello
from palimpsest.federated.flower.simulation import simulated
from palimpsest.federated.procedure import Errand

TASK = "digits through Flower"
MODEL = "digits"
"""What stands where a digest of the model would: all have the same network."""


@lru_cache(maxsize=1)
def world_here(seed: int) -> World:
    """What a seed makes, once for all clients of a process."""
    return world_of(seed)


class ClientOfSeed(NamedTuple):
    """What a process of the simulation needs to work as any of the clients; calling it makes the client."""

    seed: int

    def __call__(self, client: str) -> Node:
        """A client with its own rows alone."""
        clients = world_here(self.seed).clients
        own = replace(clients, rows={client: clients.rows[client]})
        return Node(Hello(client, MODEL, len(own.rows[client].y)), own)


@dataclass
class FarClients:
    """Clients behind a grid, counted as ``PlainClients`` are.

    Attributes:
        grid: reaches them.
        network: of the server, to measure with.
    """

    grid: GridClients
    network: nn.Module
    asked: int = field(default=0, init=False)
    spent: float = field(default=0.0, init=False)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return self.grid.names

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        """All at the same time."""
        for told in self.grid.ask(errand, number):
            if isinstance(told, Absent):
                raise RuntimeError(f"{told.client}: {told.why}")  # a table of the healthy case
            self.asked += 1
            self.spent += told.seconds
            yield told

    def seconds(self) -> float:
        """CPU of this process, and of the clients by their own word."""
        return seconds_now() + self.spent


def rows_through_flower(seed: int) -> list[dict[str, Any]]:
    """Every row of a seed, all clients behind Flower."""
    here = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, here))  # Ray's processes import this file
    world = world_of(seed)
    names = world.clients.names

    def serve(grid: Any) -> list[dict[str, Any]]:
        far = FarClients(GridClients(grid, names, MODEL), world.clients.network)
        return rows_of_world(world._replace(clients=far))

    return [{"task": TASK, "seed": seed, **one} for one in simulated(names, ClientOfSeed(seed), serve)]
