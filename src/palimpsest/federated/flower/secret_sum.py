"""Secure aggregation by Flower's SecAgg+ (Bell et al. 2020): the server learns the mean of changes and no single one.

Flower has it in its legacy interface alone (``flwr.server.workflow``, and the mod of clients in ``flwr.client.mod``):
one round of it is run inside each round of ours (docs/federated_flower.md). The mean is quantized: changes beyond ±1
are clipped, and each coordinate is rounded at random to multiples of 2⁻²³ before it is masked. Numbers of rows and
losses are told in the clear.

What a client answers is then the mean of all, so that procedures run unchanged; the ledger says that it is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key

from palimpsest.companions.round_record import Absent, Reply
from palimpsest.federated.flower.client_app import Node, check_meant, local_work
from palimpsest.federated.flower.grid_clients import GridClients
from palimpsest.federated.flower.messages import flattened, unflattened
from palimpsest.federated.procedure import Errand

CLIPPED, LEVELS = 1.0, 2**24
"""Largest size of a coordinate of a change, and the number of steps between both ends; 256 clients fit into 32 bits."""
FEWEST = 3
"""Clients below which each would know the other's change from the mean and its own."""
ENOUGH = 2 / 3
"""Share of the clients that must stay to the end of a round."""


class SecretClients(GridClients):
    """Clients of whom the server hears the mean alone."""

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        """One round of SecAgg+; every client that stayed to the end is said to have answered with the mean.

        Args:
            errand: of one round.
            number: of the round.

        Yields:
            Each client once, all at the end.
        """
        nodes, absent = self.present(errand.who)
        yield from absent
        if len(nodes) < FEWEST:
            why = f"secure aggregation needs {FEWEST} clients that are there, and there are {len(nodes)}"
            yield from (Absent(client, why) for client in nodes)
            return
        most = max(self.rows_of(node) for node in nodes.values())
        told = _OneRound(nodes, errand, self.words(errand, number)).heard(self.grid, most, self.timeout)
        why = "it fell out of the secure aggregation" if told else "too few stayed for the secure aggregation"
        yield from (told.get(client, Absent(client, why)) for client in nodes)

    def words(self, errand: Errand, number: int) -> dict[str, Any]:
        """All of an errand that is no array."""
        said = {"model": self.model, "server-round": number, "names": list(errand.weights), "what": errand.what}
        return {**said, "epochs": errand.epochs, "settings": dict(errand.settings)}


class _OneRound(FedAvg):  # type: ignore[misc]
    """Flower's legacy strategy for one round: who is asked what, and what came out."""

    def __init__(self, nodes: Mapping[str, int], errand: Errand, words: Mapping[str, Any]) -> None:
        super().__init__()
        self._nodes, self._weights, self._words = dict(nodes), errand.weights, dict(words)
        self._told: dict[str, Reply] = {}

    def heard(self, grid: Any, most_rows: int, timeout: float) -> dict[str, Reply]:
        """Have the round done: name -> answer of those who stayed; none where too few did."""
        records = {MAIN_CONFIGS_RECORD: ConfigRecord({Key.CURRENT_ROUND: 1}), MAIN_PARAMS_RECORD: ArrayRecord()}
        context = LegacyContext(Context(0, 0, {}, RecordDict(records), {}), strategy=self)
        workflow = SecAggPlusWorkflow(
            1.0, ENOUGH, max_weight=float(most_rows), clipping_range=CLIPPED, quantization_range=LEVELS, timeout=timeout
        )
        workflow(grid, context)
        return self._told

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> list[tuple[Any, FitIns]]:
        """Whom to ask, and what."""
        arrays = ndarrays_to_parameters([tensor.numpy() for tensor in self._weights.values()])
        return [
            (_Known(node), FitIns(arrays, {"errand": json.dumps({**self._words, "client": client})}))
            for client, node in self._nodes.items()
        ]

    def aggregate_fit(self, server_round: int, results: list[Any], failures: list[Any]) -> tuple[None, dict[str, Any]]:
        """Take the mean that Flower has unmasked."""
        clients = {node: client for client, node in self._nodes.items()}
        for proxy, told in results:
            client, said = clients[proxy.node_id], told.metrics
            (mean,) = parameters_to_ndarrays(told.parameters)
            delta = unflattened(mean, self._weights)
            self._told[client] = Reply(
                client, delta, int(told.num_examples), float(said["loss"]), float(said["seconds"])
            )
        return None, {}


class _Known:
    """A node, as the workflow asks of it."""

    def __init__(self, node: int) -> None:
        self.node_id = node


def secret_reply(message: Message, context: Context, node: Node) -> Message:
    """A client's part in one stage of a round; its own change leaves this process masked."""
    reply: Message = secaggplus_mod(message, context, lambda told, _: _open_reply(told, node))
    return reply


def _open_reply(message: Message, node: Node) -> Message:
    """The local work, for Flower's mod to mask."""
    asked = compat.recorddict_to_fitins(message.content, keep_input=True)
    words = json.loads(str(asked.config["errand"]))
    check_meant(words, node.hello)
    tensors = (torch.from_numpy(array.copy()) for array in parameters_to_ndarrays(asked.parameters))
    weights = dict(zip(words["names"], tensors, strict=True))
    errand = Errand(weights, (node.hello.client,), words["epochs"], words["what"], words["settings"])
    told = local_work(node, errand, int(words["server-round"]))
    result = FitRes(
        Status(Code.OK, ""),
        ndarrays_to_parameters([flattened(told.delta)]),
        told.examples,
        {"loss": float(told.loss), "seconds": float(told.seconds)},
    )
    return Message(compat.fitres_to_recorddict(result, keep_input=True), reply_to=message)
