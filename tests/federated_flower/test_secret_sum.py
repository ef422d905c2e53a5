"""Secure aggregation: the mean comes out, no single change does, and who falls out is said."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from tests.federated_flower.toys import MODEL, START, HereGrid, Message, node

from palimpsest.companions.round_record import Absent, Reply
from palimpsest.federated.averaging import mean_delta
from palimpsest.federated.flower.client_app import Node, client_app
from palimpsest.federated.flower.messages import Hello
from palimpsest.federated.flower.secret_sum import LEVELS, SecretClients
from palimpsest.federated.procedure import Errand

ROWS = {"a": 3, "b": 5, "c": 2, "d": 7}


class Failing:
    names = ("d",)

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        yield Absent("d", "no rows")


def secret(*names: str, fails: str = "") -> tuple[SecretClients, HereGrid]:
    nodes = [node(name, to=0.1 * n, rows=ROWS[name]) for n, name in enumerate(names, 1)]
    nodes = [Node(Hello(one.hello.client, MODEL, ROWS[one.hello.client]), one.clients) for one in nodes]
    nodes = [Node(one.hello, one.clients, secret=True) for one in nodes]
    nodes = [Node(one.hello, Failing(), secret=True) if one.hello.client == fails else one for one in nodes]
    apps = {n: client_app(lambda _, which=which: which) for n, which in enumerate(nodes, 1)}
    grid = HereGrid(apps)
    return SecretClients(grid, tuple(names), MODEL, timeout=2.0, wait=0.0), grid


def test_only_the_mean_is_learned() -> None:
    clients, grid = secret("a", "b", "c")
    said = list(clients.ask(Errand(START, clients.names), 0))
    assert all(isinstance(one, Reply) for one in said), said
    told = {one.client: one for one in said if isinstance(one, Reply)}
    assert {name: one.examples for name, one in told.items()} == {name: ROWS[name] for name in "abc"}
    alone = {n: next(node(n, 0.1 * i, ROWS[n]).clients.ask(Errand(START, (n,)), 0)) for i, n in enumerate("abc", 1)}
    mean = mean_delta({name: one for name, one in alone.items() if isinstance(one, Reply)})
    for one in told.values():
        for name in START:
            assert torch.allclose(one.delta[name], mean[name], atol=len(told) * 2 / LEVELS * 5)
            assert not torch.allclose(mean[name], alone["a"].delta[name], atol=1e-3)
    through_procedure = mean_delta(told)
    assert all(torch.allclose(through_procedure[name], told["a"].delta[name], atol=1e-7) for name in START)
    for message in grid.sent:
        assert message.metadata.message_type in ("train", "query.who")


def test_no_message_of_a_client_holds_its_change() -> None:
    clients, grid = secret("a", "b", "c")
    replies: list[Message] = []
    pulled = grid.pull_messages
    grid.pull_messages = lambda ids: [replies.append(one) or one for one in pulled(ids)]  # type: ignore[method-assign]
    list(clients.ask(Errand(START, clients.names), 0))
    masked = [one for one in replies if one.has_content() and "fitres.parameters" in one.content.array_records]
    assert len(masked) == 3
    assert all(not one.content["fitres.parameters"] for one in masked), "the arrays are taken out of the answer"


def test_a_client_that_fails_falls_out_and_the_others_go_on() -> None:
    clients, _ = secret("a", "b", "c", "d", fails="d")
    said = {one.client: one for one in clients.ask(Errand(START, clients.names), 0)}
    assert sorted(said) == ["a", "b", "c", "d"]
    assert said["d"] == Absent("d", "it fell out of the secure aggregation")
    assert all(isinstance(said[name], Reply) for name in "abc")


def test_two_clients_are_too_few() -> None:
    clients, _ = secret("a", "b")
    (one, _) = clients.ask(Errand(START, ("a", "b")), 0)
    assert one == Absent("a", "secure aggregation needs 3 clients that are there, and there are 2")


def test_a_client_of_secure_aggregation_tells_nothing_else() -> None:
    from palimpsest.federated.flower.grid_clients import GridClients

    _, grid = secret("a", "b", "c")
    for one in GridClients(grid, ("a", "b", "c"), MODEL, timeout=1.0, wait=0.0).ask(Errand(START, ("a",)), 0):
        assert isinstance(one, Absent)
        assert "secure aggregation was agreed on" in one.why
