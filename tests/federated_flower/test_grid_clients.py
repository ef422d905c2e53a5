"""Clients through Flower's grid: the same answers as without it, and whoever lies, dies or is late is left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import count

import numpy as np
import pytest
import torch
from tests.federated_flower.toys import (
    MODEL,
    START,
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    ErrorCode,
    Message,
    MetricRecord,
    Twist,
    grid_of,
    node,
)

from palimpsest.companions.round_record import Absent, Reply, Weights
from palimpsest.federated.fed_avg import fed_avg
from palimpsest.federated.flower.client_app import Node
from palimpsest.federated.flower.grid_clients import GridClients
from palimpsest.federated.flower.messages import Hello
from palimpsest.federated.procedure import Errand

ERRAND = Errand(START, ("a", "b", "c"))


def clients(*nodes: Node, twists: dict[int, Twist] | None = None) -> GridClients:
    return GridClients(grid_of(*nodes, twists=twists), ("c", "a", "b"), MODEL, timeout=0.3, wait=0.0)


def said(who: GridClients, errand: Errand = ERRAND) -> dict[str, Reply | str]:
    """Each client's answer, or why there is none."""
    heard = list(who.ask(errand, 0))
    assert sorted(one.client for one in heard) == ["a", "b", "c"], "each client is told of once"
    return {one.client: one.why if isinstance(one, Absent) else one for one in heard}


def carried_out(ask: Callable[[Errand, int], Iterable[Reply | Absent]]) -> Weights:
    """Three rounds of federated averaging with clients that all answer."""
    procedure = fed_avg(START, ("a", "b", "c"), 1.0, 3)
    errand = next(procedure)
    for number in count():
        try:
            errand = procedure.send({one.client: one for one in ask(errand, number) if isinstance(one, Reply)})
        except StopIteration as stop:
            final: Weights = stop.value
            return final
    raise AssertionError


def test_a_procedure_runs_through_flower_to_the_same_bits() -> None:
    nodes = {name: node(name, to, rows) for name, to, rows in (("a", 0.1, 3), ("b", 0.7, 5), ("c", -2.3, 2))}
    through = clients(*nodes.values())
    ends = [carried_out(through.ask), carried_out(lambda e, n: [next(nodes[c].clients.ask(e, n)) for c in e.who])]
    assert through.names == ("a", "b", "c")
    assert list(ends[0]) == list(START)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in START)


def test_a_client_is_told_what_to_do() -> None:
    class Listening:
        names = ("a",)

        def ask(self, errand: Errand, number: int):
            heard.append((errand, number))
            yield Reply("a", {"w": torch.ones(2, 3, dtype=torch.float64)}, 1, float("nan"), 0.0)

    heard: list[tuple[Errand, int]] = []
    errand = Errand(START, ("a",), 0.5, "statistics", {"learning_rate": 0.25, "rank": 2.0})
    errand = errand._replace(beside={"w": torch.full((2, 3), 7.0)}, loss=False)
    through = GridClients(grid_of(Node(Hello("a", MODEL), Listening())), ("a",), MODEL)
    (reply,) = through.ask(errand, 7)
    assert isinstance(reply, Reply)
    assert reply.delta["w"].dtype == torch.float64, "statistics keep their precision and their shapes"
    ((got, number),) = heard
    assert (got.epochs, got.what, dict(got.settings), number) == (0.5, "statistics", dict(errand.settings), 7)
    assert (got.loss, got.beside["w"].tolist()) == (False, errand.beside["w"].tolist())
    assert {name: tensor.tolist() for name, tensor in got.weights.items()} == {n: t.tolist() for n, t in START.items()}


def test_who_is_not_there_or_not_one_is_left_out() -> None:
    assert said(clients(node("a"), node("b"), node("b"))) | {"a": 0} == {
        "a": 0,
        "b": "2 nodes call themselves so: which one is meant cannot be told",
        "c": "it is not connected",
    }
    other = said(clients(node("a"), node("b", model="n" * 64), node("c")))["b"]
    assert other == f"it trains another model ({'n' * 12}, not {'m' * 12})"


def test_a_client_that_fails_says_why_in_one_line() -> None:
    class Broken:
        names = ("a",)

        def ask(self, errand: Errand, number: int):
            raise ValueError("no rows\nat all")

    class Absentee(Broken):
        def ask(self, errand: Errand, number: int):
            yield Absent("b", "nothing to learn from")

    broken, absentee = (Node(Hello(name, MODEL), kind()) for name, kind in (("a", Broken), ("b", Absentee)))
    got = said(clients(broken, absentee, node("c")))
    assert (got["a"], got["b"]) == ("it failed: ValueError: no rows at all", "it failed: nothing to learn from")
    assert isinstance(got["c"], Reply)


def arrays(**tensors: np.ndarray) -> ArrayRecord:
    good = {"w": np.zeros((2, 3), np.float32), "v": np.zeros((), np.float32)}
    return ArrayRecord({name: Array(value) for name, value in {**good, **tensors}.items()})


def metrics(**values: float) -> MetricRecord:
    return MetricRecord({"num-examples": 1, "loss": 0.5, "seconds": 0.1, **values})


def hiding() -> ArrayRecord:
    record = arrays()
    big = Array(np.zeros((9, 9), np.float32))
    record["w"] = Array("float32", (2, 3), "numpy.ndarray", big.data)
    return record


LIES: dict[str, tuple[str, Callable[[], object], str]] = {
    "shape": ("arrays", lambda: arrays(w=np.zeros((3, 2), np.float32)), r"w came back with the shape \[3, 2\] and not"),
    "hidden shape": ("arrays", hiding, r"w came back with the shape \[9, 9\] and not \[2, 3\]"),
    "not a number": ("arrays", lambda: arrays(v=np.array(np.nan, np.float32)), "v has values that are not finite"),
    "names": ("arrays", lambda: arrays(u=np.zeros(1, np.float32)), "not those that it was sent: u"),
    "no array": ("arrays", lambda: ArrayRecord({**arrays(), "v": Array("float32", (), "numpy.ndarray", b"x")}), "read"),
    "size": (
        "arrays",
        lambda: ArrayRecord({**arrays(), "v": Array("float32", (), "n", bytes(9999))}),
        "9999 bytes for 1",
    ),
    "rows": ("metrics", lambda: metrics(**{"num-examples": -4}), "it said -4 rows"),
    "loss": ("metrics", lambda: metrics(loss=float("inf")), "a loss of inf"),
    "no metrics": ("metrics", MetricRecord, "its answer cannot be read"),
    "name": ("config", lambda: ConfigRecord({"client": "b\n", "model": MODEL}), "answered under the name 'b'"),
    "model": ("config", lambda: ConfigRecord({"client": "a", "model": "other"}), "it trains another model"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_client_that_lies_is_left_out(lie: str) -> None:
    record, make, why = LIES[lie]

    def twist(reply: Message) -> Message:
        reply.content[record] = make()
        return reply

    got = said(clients(node("a"), node("b"), node("c"), twists={1: twist}))
    assert isinstance(got["b"], Reply)
    assert isinstance(got["a"], str)
    assert re.search(why, got["a"]), got["a"]
    assert "\n" not in got["a"]


def test_a_straggler_is_given_up() -> None:
    got = said(clients(node("a"), node("b"), node("c"), twists={2: lambda reply: None}))
    assert got["b"] == "it did not answer in time"
    assert isinstance(got["a"], Reply)


def test_a_client_that_was_meant_for_another_name_refuses() -> None:
    grid = grid_of(node("a"))
    through = GridClients(grid, ("a",), MODEL, timeout=0.3, wait=0.0)
    through.present(("a",))
    through._said[1] = Hello("z", MODEL)
    (heard,) = through.ask(Errand(START, ("z",)), 0)
    assert heard == Absent("z", "it failed: it was asked under the name 'z'")


@pytest.mark.parametrize("code", [ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE])
def test_a_message_that_outlived_its_time_is_a_late_answer(code: int) -> None:
    """Flower drops it a moment before we give up, and says so at length."""

    def expired(reply: Message) -> Message:
        reply.__dict__["_content"] = None  # a message holds one or the other
        reply.error = Error(code=code, reason="Message Unavailable - The requested message could not be found")
        return reply

    assert said(clients(node("a"), node("b"), node("c"), twists={2: expired}))["b"] == "it did not answer in time"
