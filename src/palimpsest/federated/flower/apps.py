"""The two apps that Flower starts in processes of their own: ``client`` in every node, ``server`` beside the superlink.

A node says in its node config who it is and where its rows lie: client, rows, and where they are not those of the run
model, work, secret. What it is to do with them, the plan of the local work, comes with the run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from palimpsest.engine.given import Given
from palimpsest.engine.inputs import read_given
from palimpsest.engine.plan import Plan
from palimpsest.engine.progress import silent
from palimpsest.federated.flower.client_app import Node, client_app
from palimpsest.federated.flower.hello import Hello
from palimpsest.federated.flower.layout_said import layout_from
from palimpsest.models.sources import source_digest
from palimpsest.records import Example

if TYPE_CHECKING:
    from palimpsest.companions.round_record import Absent, Reply
    from palimpsest.federated.local import LocalClients
    from palimpsest.federated.procedure import Errand


class RowsHere:
    """One client with its rows; the model is loaded when there is something to do.

    Args:
        client: its name.
        plan: of the local work, with the model as it lies here.
        rows: its own.
        folder: for what local work writes meanwhile.
    """

    def __init__(self, client: str, plan: Plan, rows: list[Example], folder: Path) -> None:
        self.names, self._plan, self._rows, self._folder = (client,), plan, rows, folder

    @cached_property
    def _clients(self) -> LocalClients:
        from palimpsest.federated.local import LocalClients
        from palimpsest.federated.workbench import Workbench

        return LocalClients(Workbench.opened(self._plan, {self.names[0]: self._rows}, self._folder, threads=1))

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        """Do what is asked."""
        return self._clients.ask(errand, number)


def node_here(context: Context) -> Node:
    """The client that a node is, from its own config and that of the run.

    Raises:
        UsageError: its rows or its model cannot be used.
    """
    own, run = context.node_config, context.run_config
    client, plan = str(own["client"]), Plan.model_validate_json(str(run["local"]))
    plan = plan.model_copy(update={"model": str(own.get("model") or plan.model)})
    given = Given(plan.model, {"learn": str(own["rows"])}, layout=layout_from(str(run["layout"])))
    rows = read_given(given, silent).examples["learn"]
    folder = Path(str(own.get("work") or tempfile.mkdtemp(prefix="palimpsest-client-")))
    hello = Hello(client, source_digest(plan.model, plan.revision), len(rows))
    secret = bool(own.get("secret", False)) or bool(run.get("secret", False))
    return Node(hello, RowsHere(client, plan, rows, folder), secret)


client = client_app(node_here)
server = ServerApp()


@server.main()  # type: ignore[untyped-decorator]
def serve_job(grid: Grid, context: Context) -> None:
    """Do the job that the run names, with the clients behind this grid."""
    from palimpsest.federated.flower.job import Job

    Job.read(Path(str(context.run_config["job"]))).serve(grid)
