"""Clients and a grid without processes: messages go through Flower's own client app, in this process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from uuid import uuid4

import pytest
import torch

if importlib.util.find_spec("flwr") is None:
    pytest.skip("Flower is not installed here: `make test-federated` runs these", allow_module_level=True)

# Files of tests import from here what is Flower's, so that they are skipped with this file.
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict  # noqa: F401
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode  # noqa: F401
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from palimpsest.companions.round_record import Absent, Reply
from palimpsest.federated.flower.client_app import Node, client_app
from palimpsest.federated.flower.messages import Hello
from palimpsest.federated.procedure import Errand

START = {"w": torch.zeros(2, 3), "v": torch.ones(())}
MODEL = "m" * 64


class Pulled:
    """A client that goes half the way to a number of its own."""

    def __init__(self, name: str, to: float, rows: int) -> None:
        self.names, self._to, self._rows = (name,), to, rows

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        delta = {name: (self._to - tensor) * 0.5 for name, tensor in errand.weights.items()}
        loss = sum(float(((self._to - tensor) ** 2).sum()) for tensor in errand.weights.values())
        yield Reply(self.names[0], delta, self._rows, loss, 0.1)


def node(name: str, to: float = 1.0, rows: int = 1, model: str = MODEL) -> Node:
    return Node(Hello(name, model), Pulled(name, to, rows))


Twist = Callable[[Message], Message | None]
"""What becomes of a node's reply on its way: changed, or lost."""


class HereGrid(Grid):
    """Flower's grid over client apps in this process.

    Args:
        apps: node id -> its app.
        twists: node id -> what becomes of its replies to "train.errand".
    """

    def __init__(self, apps: Mapping[int, ClientApp], twists: Mapping[int, Twist] | None = None) -> None:
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
        self.apps, self.twists, self.sent = dict(apps), dict(twists or {}), list[Message]()
        self._contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in apps}
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None: ...

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._pushed(message) for message in messages]

    def _pushed(self, message: Message) -> str:
        identifier = str(uuid4())
        message.metadata.__dict__["_message_id"] = identifier
        self.sent.append(message)
        to = message.metadata.dst_node_id
        copy = deepcopy(message)  # as a process of its own would have it
        reply: Message | None = self.apps[to](copy, self._contexts[to])
        if message.metadata.message_type == "train.errand" and to in self.twists and reply is not None:
            reply = self.twists[to](reply)
        if reply is not None:
            self._replies[identifier] = reply
        return identifier

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(identifier) for identifier in list(message_ids) if identifier in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))


def grid_of(*nodes: Node, twists: Mapping[int, Twist] | None = None) -> HereGrid:
    """A grid with these nodes, under the ids 1, 2, ..."""
    apps = {number: client_app(lambda _, which=which: which) for number, which in enumerate(nodes, 1)}
    return HereGrid(apps, twists)
