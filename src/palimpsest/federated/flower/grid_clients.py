"""The server's side: clients that are reached through Flower's grid, so that every procedure runs through Flower.

Who is late, dead, of another name or model, or answers with what cannot be, is left out of the round, and the ledger of
rounds says why. The others go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from palimpsest.companions.round_record import Absent, Reply
from palimpsest.errors import RunError
from palimpsest.federated.flower.client_app import ERRAND, WHO
from palimpsest.federated.flower.hello import Hello, read_hello, refusal_of, wrong_model
from palimpsest.federated.flower.messages import LATE, errand_record, read_told
from palimpsest.federated.procedure import Errand

TIMEOUT = 600.0
"""Seconds after which a client is given up in a round; and, before the first, until all must be there."""
LOOK_FOR_REPLIES = 0.1
"""Seconds between two looks for answers."""


class GridClients:
    """Clients behind Flower's grid.

    Args:
        grid: Flower's, in the server app.
        names: of the clients.
        model: digest of the model that they must train.
        timeout: seconds after which a client is given up in a round.
        wait: seconds until all must have come before the first round; None = as long as for an answer.
    """

    def __init__(
        self, grid: Grid, names: tuple[str, ...], model: str, timeout: float = TIMEOUT, wait: float | None = None
    ) -> None:
        self.grid, self.model, self.timeout = grid, model, timeout
        self._names = tuple(sorted(names))
        self._said: dict[int, Hello | str] = {}  # of each node: who it is, or what was wrong with its word
        self._wait = timeout if wait is None else wait

    @property
    def names(self) -> tuple[str, ...]:
        """All clients, sorted."""
        return self._names

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        """Have the clients do their local work, all at the same time.

        Args:
            errand: of one round.
            number: of the round.

        Yields:
            Each client once, as it answers or is given up.
        """
        nodes, absent = self.present(errand.who)
        yield from absent
        clients = {node: client for client, node in nodes.items()}
        contents = {node: errand_record(errand, number, client, self.model) for node, client in clients.items()}
        for node, reply in self.exchanged(contents, ERRAND, number):
            yield heard(reply, Hello(clients[node], self.model), errand)

    def present(self, who: tuple[str, ...]) -> tuple[dict[str, int], list[Absent]]:
        """Client -> node of those who are there, and who is not, and why."""
        self._listen(who)
        there = set(self.grid.get_node_ids())
        said = {node: hello for node, hello in self._said.items() if node in there and isinstance(hello, Hello)}
        nodes, absent = dict[str, int](), list[Absent]()
        for client in who:
            its = [node for node, hello in said.items() if hello.client == client]
            if why := self._why_not([said[node].model for node in its]):
                absent.append(Absent(client, why))
            else:
                nodes[client] = its[0]
        return nodes, absent

    def rows_of(self, node: int) -> int:
        """Rows of a node that is there, by its own word; at least 1."""
        hello = self._said[node]
        return max(1, hello.rows) if isinstance(hello, Hello) else 1

    def _why_not(self, models: list[str]) -> str:
        """Why a client cannot be asked, from the models of the nodes with its name; empty where it can."""
        if not models:
            return "it is not connected"
        if len(models) > 1:
            return f"{len(models)} nodes call themselves so: which one is meant cannot be told"
        return "" if models[0] == self.model else wrong_model(models[0], self.model)

    def _listen(self, who: tuple[str, ...]) -> None:
        """Ask every new node who it is; before the first round, until all have come or the time is up."""
        until = time.monotonic() + (self._wait if not self._said else 0.0)
        while True:
            new = [node for node in self.grid.get_node_ids() if node not in self._said]
            for node, reply in self.exchanged(dict.fromkeys(new, RecordDict()), WHO, 0):
                self._said[node] = _heard_hello(reply)
            known = {hello.client for hello in self._said.values() if isinstance(hello, Hello)}
            if known >= set(who) or time.monotonic() >= until:
                return
            time.sleep(LOOK_FOR_REPLIES)

    def exchanged(
        self, contents: Mapping[int, RecordDict], kind: str, number: int
    ) -> Iterator[tuple[int, Message | None]]:
        """Send each node its message and give its reply as it comes; None for those that are given up."""
        until, waiting = time.monotonic() + self.timeout, dict[str, int]()
        for node, content in contents.items():
            message = Message(content, node, kind, ttl=self.timeout, group_id=str(number))
            taken = [identifier for identifier in self.grid.push_messages([message]) if identifier]
            waiting.update(dict.fromkeys(taken, node))
        gone = set(contents) - set(waiting.values())
        while waiting:
            for reply in self.grid.pull_messages(list(waiting)):
                if (answered := waiting.pop(reply.metadata.reply_to_message_id, None)) is not None:
                    yield answered, reply
            if time.monotonic() >= until:  # after a last look: what is there has come in time
                break
            time.sleep(LOOK_FOR_REPLIES if waiting else 0.0)
        yield from ((node, None) for node in sorted(gone | set(waiting.values())))


def _heard_hello(reply: Any) -> Hello | str:
    if reply is None or reply.has_error():
        return "" if reply is None else str(reply.error.reason)
    try:
        return read_hello(reply.content)
    except RunError as error:
        return refusal_of(error)


def heard(reply: Message | None, expected: Hello, errand: Errand) -> Reply | Absent:
    """What a client told, or why it is left out."""
    if reply is None:
        return Absent(expected.client, LATE)
    try:
        return read_told(reply, expected, errand)
    except RunError as error:
        return Absent(expected.client, refusal_of(error))
