"""The client's side: a Flower client app whose local work is done by the same engine as anywhere else.

Flower's nodes start a process for every message, so one that only asks who is there imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from palimpsest.errors import PalimpsestError, RunError
from palimpsest.federated.flower.hello import CONFIG, Hello, hello_record, refusal_of, wrong_model

if TYPE_CHECKING:
    from palimpsest.companions.round_record import Reply
    from palimpsest.federated.procedure import Clients, Errand

ERRAND, WHO = "train.errand", "query.who"
"""Kinds of messages that a node answers; "train" alone is that of secure aggregation (secret_sum.py)."""
REFUSED = 2  # Flower's code of a client app that failed


class Node(NamedTuple):
    """A client as one process has it.

    Attributes:
        hello: its name and the model that it trains.
        clients: who does its local work.
        secret: it takes part in secure aggregation, and tells no answer otherwise.
    """

    hello: Hello
    clients: Clients
    secret: bool = False


NodeOf = Callable[[Context], Node]
"""What a node is, from what Flower knows of it: its node_config, e.g. the name and the file of its rows."""


def client_app(node_of: NodeOf) -> ClientApp:
    """A client app.

    Args:
        node_of: called once per process and node.
    """
    app, known = ClientApp(), dict[int, Node]()

    def node(context: Context) -> Node:
        if context.node_id not in known:
            known[context.node_id] = node_of(context)
        return known[context.node_id]

    def say_who(message: Message, context: Context) -> Message:
        return with_reasons(message, lambda: Message(hello_record(node(context).hello), reply_to=message))

    def do_errand(message: Message, context: Context) -> Message:
        return with_reasons(message, lambda: plain_reply(message, node(context)))

    def do_secretly(message: Message, context: Context) -> Message:
        from palimpsest.federated.flower.secret_sum import secret_reply

        return with_reasons(message, lambda: secret_reply(message, context, node(context)))

    app.query("who")(say_who)
    app.train("errand")(do_errand)
    app.train()(do_secretly)
    return app


def plain_reply(message: Message, node: Node) -> Message:
    """The answer to an errand.

    Raises:
        RunError: it is for another client or of another model, or could not be done.
    """
    from palimpsest.federated.flower.messages import read_errand, reply_record  # torch with it

    if node.secret:
        raise RunError("it tells no answer of its own: secure aggregation was agreed on")
    config = message.content[CONFIG]
    check_meant(config, node.hello)
    told = local_work(node, read_errand(message.content, node.hello.client), int(config["server-round"]))
    return Message(reply_record(told, node.hello.model), reply_to=message)


def check_meant(said: Mapping[str, Any], hello: Hello) -> None:
    """Refuse an errand for another client or of another model.

    Raises:
        RunError: it is.
    """
    if said["client"] != hello.client:
        raise RunError(f"it was asked under the name {said['client']!r}")
    if said["model"] != hello.model:
        raise RunError(wrong_model(hello.model, str(said["model"])))


def local_work(node: Node, errand: Errand, number: int) -> Reply:
    """One client's local work.

    Raises:
        RunError: it could not be done; why.
    """
    from palimpsest.companions.round_record import Absent

    (said,) = node.clients.ask(errand, number)
    if isinstance(said, Absent):
        raise RunError(said.why)
    return said


def with_reasons(message: Message, make: Callable[[], Message]) -> Message:
    """The reply to a message; where it cannot be made, the reason instead, as one line and no traceback."""
    try:
        return make()
    except PalimpsestError as error:
        return error_reply(message, refusal_of(error))
    except Exception as error:  # whatever it is, it is this client's alone: the others go on
        return error_reply(message, refusal_of(RunError(f"{type(error).__name__}: {error}")))


def error_reply(message: Message, why: str) -> Message:
    """A reply that says why there is none."""
    return Message(Error(code=REFUSED, reason=why), reply_to=message)
