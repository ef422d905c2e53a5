"""Flower's federated averaging with every round written down in the signed ledger, for server apps of one's own.

``palimpsest federated run`` needs none of this: there every procedure goes through Flower's grid. This is for who has
a server app already and calls Flower's own ``strategy.start(grid, arrays, num_rounds=...)``: the rounds that it leaves
are those that an erasure starts from.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from palimpsest.companions.round_record import Absent, Replies, Reply
from palimpsest.companions.round_writing import Heard, RoundWriter
from palimpsest.errors import RunError
from palimpsest.federated.averaging import averaged_by
from palimpsest.federated.fed_avg import loss_of
from palimpsest.federated.flower.client_app import ERRAND
from palimpsest.federated.flower.grid_clients import GridClients, heard
from palimpsest.federated.flower.hello import Hello
from palimpsest.federated.flower.messages import as_arrays, as_tensors, errand_record
from palimpsest.federated.procedure import Combine, Errand


class LedgerStrategy(FedAvg):  # type: ignore[misc]
    """Flower's FedAvg over clients that are known by name, with a ledger.

    Args:
        clients: behind the grid that ``start`` is given.
        writer: of the rounds.
        epochs: local passes of one round.
        combine: how the answers are combined (``combining.py``); federated averaging if not given.
    """

    def __init__(
        self, clients: GridClients, writer: RoundWriter, epochs: float = 1.0, combine: Combine = averaged_by
    ) -> None:
        super().__init__()
        self.clients, self.writer, self.epochs, self.combine = clients, writer, epochs, combine
        self._errand = Errand({}, clients.names, epochs)
        self._nodes: dict[str, int] = {}
        self._absent: dict[str, str] = {}
        self._begun = 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Write down what is asked, and ask every client that is there."""
        self._begun = time.perf_counter()
        self._errand = errand = Errand(as_tensors(arrays), self.clients.names, self.epochs)
        said = {"what": errand.what, "epochs": errand.epochs, "settings": {}}
        if self.writer.begin(server_round - 1, errand.weights, said, errand.who).closed:
            raise RunError(f"round {server_round} is in the ledger already; give a folder without rounds")
        self._nodes, absent = self.clients.present(errand.who)
        self._absent = {one.client: one.why for one in absent}
        model, number = self.clients.model, server_round - 1
        return [
            Message(errand_record(errand, number, client, model), node, ERRAND, group_id=str(number))
            for client, node in self._nodes.items()
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Write every answer down, then the round; what cannot be is left out, and the round says why.

        Raises:
            RunError: nobody answered.
        """
        by_node = {reply.metadata.src_node_id: reply for reply in replies}
        said = [heard(by_node.get(node), self._hello(client), self._errand) for client, node in self._nodes.items()]
        answers: Replies = {one.client: one for one in said if isinstance(one, Reply)}
        self._absent |= {one.client: one.why for one in said if isinstance(one, Absent)}
        if not answers:
            raise RunError(f"round {server_round}: nobody answered; {next(iter(self._absent.items()))}")
        self._write(server_round - 1, answers)
        weights = self.combine(self._errand.weights, answers)
        return as_arrays(weights), MetricRecord({"loss": loss_of(answers), "absent": len(self._absent)})

    def _hello(self, client: str) -> Hello:
        return Hello(client, self.clients.model)

    def _write(self, number: int, answers: Replies) -> None:
        for reply in answers.values():
            self.writer.hear(number, reply)
        absent = tuple(Absent(client, why) for client, why in sorted(self._absent.items()))
        sent = sum(tensor.nbytes for tensor in self._errand.weights.values())
        facts = {"what": self._errand.what, "epochs": self.epochs, "known": [], "sent": sent}
        seconds = time.perf_counter() - self._begun
        self.writer.close(number, {**facts, "seconds": seconds}, Heard(dict(answers), absent, closed=True))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: what a version can do is measured when it is there."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing."""
        return None
