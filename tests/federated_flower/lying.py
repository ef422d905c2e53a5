"""The command, through real processes of Flower, with one client that lies: its change is twisted before it is sent.

    LIAR=c LIE=loud python lying.py federated run --through processes ...

The nodes find the client app below instead of palimpsest's own; all else, the server above all, is as ever.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tests.federated_flower.lies import LIES
from torch import Tensor

from palimpsest.companions.round_record import Absent, Reply
from palimpsest.federated.flower.apps import node_here, server
from palimpsest.federated.flower.client_app import Node, client_app
from palimpsest.federated.procedure import Clients, Errand

if TYPE_CHECKING:
    from flwr.app import Context  # not at run time: Flower's telemetry is off once palimpsest has been imported

APPS = '''"""Apps with a liar."""

from tests.federated_flower import lying

client = lying.client
server = lying.server
'''


class Liar(NamedTuple):
    """A client that does its work and tells something else."""

    honest: Clients
    lie: Callable[[Tensor], Tensor]

    @property
    def names(self) -> tuple[str, ...]:
        return self.honest.names

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        for told in self.honest.ask(errand, number):
            assert isinstance(told, Reply)
            yield told._replace(delta={name: self.lie(tensor) for name, tensor in told.delta.items()})


def node_that_may_lie(context: Context) -> Node:
    node = node_here(context)
    if node.hello.client != os.environ["LIAR"]:
        return node
    return node._replace(clients=Liar(node.clients, LIES[os.environ["LIE"]]))


client = client_app(node_that_may_lie)
__all__ = ["client", "server"]

if __name__ == "__main__":
    from palimpsest.cli import main
    from palimpsest.federated.flower import processes

    processes.APPS = APPS
    sys.exit(main(sys.argv[1:]))
