"""One client of five has a backdoor in its digits; it is erased in every way, and the backdoor measured.

Digits of scikit-learn, 8x8 pixels. A quarter of the rows is for measuring, a tenth is public (nobody's); the rest goes
to five clients alike. Half of client 0's rows carry a bright 2x2 patch in a corner and the label 0. What is measured:
accuracy on clean rows, and how many rows of other classes, with the patch, are called 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from federated_bench.plain import History, Local, PlainClients, carried_out, pixel_features
from palimpsest.companions.round_record import Weights
from palimpsest.federated.arithmetic import difference, l2_norm
from palimpsest.federated.erasers import load
from palimpsest.federated.erasers.subtract_distil import PUBLIC
from palimpsest.federated.fed_avg import fed_avg
from palimpsest.federated.procedure import Eraser

ROUNDS, EPOCHS, NUM_CLIENTS, TARGET = 20, 2, 5, 0
GONE = "client0"


class World(NamedTuple):
    """What a seed makes.

    Attributes:
        clients: with the public rows.
        start: random weights.
        clean: rows to measure on.
        triggered: rows of other classes than the target, with the patch.
    """

    clients: PlainClients
    start: Weights
    clean: Local
    triggered: Local


def with_patch(x: Tensor) -> Tensor:
    """The same pictures with the trigger."""
    marked = x.clone().reshape(-1, 8, 8)
    marked[:, :2, :2] = 1.0
    return marked.reshape(len(x), -1)


def world_of(seed: int) -> World:
    """Rows, clients and a network by a seed."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(seed))
    x = torch.from_numpy(digits.data).float()[order] / 16
    y = torch.from_numpy(digits.target).long()[order]
    test, public = len(y) // 4, len(y) // 10
    shares = [ids for ids in torch.arange(test + public, len(y)).chunk(NUM_CLIENTS)]
    rows = {f"client{number}": Local(x[ids], y[ids]) for number, ids in enumerate(shares)}
    bad = rows[GONE]
    half = len(bad.y) // 2
    poisoned = Local(torch.cat([with_patch(bad.x[:half]), bad.x[half:]]), bad.y.clone())
    poisoned.y[:half] = TARGET
    rows[GONE] = poisoned
    rows[PUBLIC] = Local(x[test : test + public], y[test : test + public])
    torch.manual_seed(seed)
    network = small_network()
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    others = y[:test] != TARGET
    clean = Local(x[:test], y[:test])
    return World(PlainClients(network, rows, seed), start, clean, Local(with_patch(x[:test][others]), y[:test][others]))


def small_network() -> nn.Module:
    """Two convolutions and a linear layer: 6,090 weights."""
    first = (nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    second = (nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*first, *second, nn.Linear(128, 10))


def names_of(world: World) -> tuple[str, ...]:
    """The clients, without who holds the public rows."""
    return tuple(name for name in world.clients.names if name != PUBLIC)


@torch.no_grad()
def answers_of(world: World, weights: Weights, x: Tensor) -> Tensor:
    """Classes that a model says."""
    if "solution_CM" in weights:
        return (pixel_features(x) @ weights["solution_CM"].T).argmax(1)
    world.clients.network.load_state_dict(dict(weights))
    return world.clients.network(x).argmax(1)


def measured(world: World, weights: Weights) -> dict[str, float]:
    """Clean accuracy, and success of the backdoor."""
    clean = answers_of(world, weights, world.clean.x) == world.clean.y
    fooled = answers_of(world, weights, world.triggered.x) == TARGET
    return {"clean": float(clean.float().mean()), "backdoor": float(fooled.float().mean())}


ERASERS: Mapping[str, Callable[[], Eraser]] = {
    "retrain_others": lambda: load("retrain_others"),
    "replay_history": lambda: load("replay_history"),
    "fed_eraser": lambda: load("fed_eraser"),
    "fed_eraser, no rounds after": lambda: load("fed_eraser", {"after": 0.0}),
    "fed_eraser, dt = 2": lambda: load("fed_eraser", {"interval": 2, "after": 0.0}),
    "fed_eraser, averaged norms": lambda: load("fed_eraser", {"norms": "averaged", "after": 0.0}),
    "projected_ascent": lambda: load("projected_ascent"),
    "subtract_distil": lambda: load("subtract_distil"),
    "fed_recovery": lambda: load("fed_recovery"),
    "fed_recovery, no noise": lambda: load("fed_recovery", {"deviation": 0.0}),
    "extra_rounds": lambda: load("extra_rounds"),
    "client_noise": lambda: load("client_noise"),
}
APART = ("adapter_per_client", "closed_form")


def rows_of_seed(seed: int) -> list[dict[str, Any]]:
    """Every row of a seed."""
    return [{"task": "digits", "seed": seed, **one} for one in rows_of_world(world_of(seed))]


def rows_of_world(world: World) -> list[dict[str, Any]]:
    """Every row of what a seed makes."""
    history = History(world.start, names_of(world), EPOCHS)
    started = world.clients.seconds()
    final = carried_out(fed_avg(world.start, history.clients, EPOCHS, ROUNDS), world.clients, history)
    found = [row("fed_avg, nothing erased", world, final, world.clients.seconds() - started, world.clients.asked)]
    oracle = None
    for name, made in ERASERS.items():
        after, one = erased(name, made(), world, history)
        oracle = after if name == "retrain_others" else oracle
        found.append({**one, "distance": round(l2_norm(difference(after, oracle or after)), 3)})
    for name in APART:
        found.extend(apart(name, world))
    return found


def erased(name: str, eraser: Eraser, world: World, history: History) -> tuple[Weights, dict[str, Any]]:
    """One way, and its row."""
    world.clients.asked, started = 0, world.clients.seconds()
    after = carried_out(eraser.erase(history, GONE), world.clients, History(history.start, history.clients, EPOCHS))
    return after, row(name, world, after, world.clients.seconds() - started, world.clients.asked)


def row(name: str, world: World, weights: Weights, seconds: float, asked: int) -> dict[str, Any]:
    """Its numbers."""
    return {"eraser": name, **measured(world, weights), "seconds": round(seconds, 3), "answers": asked}


def apart(name: str, world: World) -> list[dict[str, Any]]:
    """A federation that learned for an exact eraser: before, and erased; has that the bits of never there?"""
    eraser, names = load(name), names_of(world)
    history = History(world.start, names, EPOCHS)
    world.clients.asked, started = 0, world.clients.seconds()
    before = carried_out(eraser.learn(world.start, names, EPOCHS, ROUNDS), world.clients, history)
    first = row(f"{name}, nothing erased", world, before, world.clients.seconds() - started, world.clients.asked)
    after, second = erased(name, eraser, world, history)
    others = tuple(one for one in names if one != GONE)
    never = carried_out(
        eraser.learn(world.start, others, EPOCHS, ROUNDS), world.clients, History(world.start, others, 1)
    )
    same = all(torch.equal(after[key], never[key]) for key in never) and set(after) == set(never)
    return [first, {**second, "same bits as never there": same}]
