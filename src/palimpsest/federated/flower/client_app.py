"""The client's side: a Flower client app whose local work is done by the same engine as anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from palimpsest.companions.round_record import Reply
from palimpsest.errors import PalimpsestError, RunError
from palimpsest.federated.flower.messages import (
    CONFIG,
    Hello,
    reply_record,
    introduced,
    read_ask,
    refusal_of,
    wrong_model,
)
from palimpsest.federated.procedure import Clients, Errand

ASK, WHO = "train.ask", "query.who"
"""Kinds of messages that a node answers; "train" alone is that of secure aggregation (secret_sum.py)."""
REFUSED = 2  # Flower's code of a client app that failed


class Node(NamedTuple):
    """A client as one process has it.

    Attributes:
        hello: its name and the model that it trains.
        clients: who does its local work.
    """

    hello: Hello
    clients: Clients


NodeOf = Callable[[Context], Node]
"""What a node is, from what Flower knows of it: its node_config, e.g. the name and the file of its rows."""


def client_app(node_of: NodeOf, secretly: Sequence[Any] = ()) -> ClientApp:
    """A client app.

    Args:
        node_of: made once per process and node.
        secretly: Flower's mods that encrypt answers; given, single answers are no longer told.
    """
    app, known = ClientApp(), dict[int, Node]()

    def node(context: Context) -> Node:
        if context.node_id not in known:
            known[context.node_id] = node_of(context)
        return known[context.node_id]

    @app.query("who")
    def say_who(message: Message, context: Context) -> Message:
        return replied(message, lambda: introduced(node(context).hello))

    @app.train("ask")
    def do_ask(message: Message, context: Context) -> Message:
        if secretly:
            return error_reply(message, "it tells no answer of its own: secure aggregation was agreed on")
        return replied(message, lambda: reply_record(worked(message, node(context)), node(context).hello.model))

    if secretly:
        from palimpsest.federated.flower.secret_sum import secret_answer

        @app.train(mods=list(secretly))
        def do_secretly(message: Message, context: Context) -> Message:
            return secret_answer(message, node(context))

    return app


def worked(message: Message, node: Node) -> Reply:
    """The local work that a message asks for.

    Raises:
        RunError: it is for another client or of another model.
    """
    config = message.content[CONFIG]
    if config["client"] != node.hello.client:
        raise RunError(f"it was asked under the name {config['client']!r}")
    if config["model"] != node.hello.model:
        raise RunError(wrong_model(node.hello.model, str(config["model"])))
    return local_work(node, read_ask(message.content, node.hello.client), int(config["server-round"]))


def local_work(node: Node, errand: Errand, number: int) -> Reply:
    """One client's local work.

    Raises:
        RunError: it could not be done; why.
    """
    (said,) = node.clients.ask(errand, number)
    if isinstance(said, Reply):
        return said
    raise RunError(said.why)


def replied(message: Message, make: Callable[[], Any]) -> Message:
    """The reply to a message; where it cannot be made, the reason instead, as one line and no traceback."""
    try:
        return Message(make(), reply_to=message)
    except PalimpsestError as error:
        return error_reply(message, refusal_of(error))
    except Exception as error:  # whatever it is, it is this client's alone: the others go on
        return error_reply(message, refusal_of(RunError(f"{type(error).__name__}: {error}")))


def error_reply(message: Message, why: str) -> Message:
    """A reply that says why there is none."""
    return Message(Error(code=REFUSED, reason=why), reply_to=message)
