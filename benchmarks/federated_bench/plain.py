"""Clients in plain torch: the local work of ``federated/`` on a small network, and a history in memory.

The erasers are what is measured; these clients cost little beside them, so that seconds are those of local work. A
client's draws are by its seed, its name and the number of the round: its answer does not depend on who else is asked.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from palimpsest.companions.round_record import Absent, Replies, Reply, Round, Weights
from palimpsest.federated.arithmetic import difference, onto_ball
from palimpsest.federated.averaging import averaged_by
from palimpsest.federated.erasers.closed_form import as_statistics
from palimpsest.federated.procedure import Clients, Combine, Errand, Procedure
from palimpsest.methods.scrub import softened_divergence
from palimpsest.models.class_sums import ClassSums
from palimpsest.models.parts.ridge_head import random_features

BATCH, RATE, MOMENTUM = 16, 0.1, 0.9
FEATURES = 256  # of the closed form


class Local(NamedTuple):
    """Rows of a client."""

    x: Tensor
    y: Tensor


def seconds_now() -> float:
    """Of this process's CPU, all threads: the machine may be shared."""
    spent = os.times()
    return spent.user + spent.system


@dataclass
class PlainClients:
    """Clients whose rows are here.

    Attributes:
        network: gives the architecture; its weights are the server's to say.
        rows: name -> rows.
        seed: of all draws.
    """

    network: nn.Module
    rows: Mapping[str, Local]
    seed: int = 0
    asked: int = field(default=0, init=False)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, and who holds public rows."""
        return tuple(sorted(self.rows))

    def seconds(self) -> float:
        """CPU of this process, in which all of them work."""
        return seconds_now()

    def ask(self, errand: Errand, number: int) -> Iterator[Reply | Absent]:
        """Each in turn."""
        for name in errand.who:
            self.asked += 1
            if name not in self.rows:
                yield Absent(name, "is not here")
            else:
                yield self._answer(name, errand, number)

    def _answer(self, name: str, errand: Errand, number: int) -> Reply:
        started, rows = seconds_now(), self.rows[name]
        self.network.load_state_dict(dict(errand.weights))
        loss = self._loss(rows) if errand.loss else float("nan")
        draw = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}/{number}".encode()))
        delta = WORK[errand.what](self.network, rows, errand, draw)
        return Reply(name, delta, len(rows.y), loss, seconds_now() - started)

    @torch.no_grad()
    def _loss(self, rows: Local) -> float:
        return float(F.cross_entropy(self.network(rows.x), rows.y))


def batches(rows: Local, epochs: float, draw: torch.Generator) -> Iterator[Local]:
    """Mini-batches of so many passes."""
    for _ in range(round(epochs)):
        for ids in torch.randperm(len(rows.y), generator=draw).split(BATCH):
            yield Local(rows.x[ids], rows.y[ids])


def moved(network: nn.Module, errand: Errand) -> dict[str, Tensor]:
    """What the work changed."""
    return difference({name: tensor.detach() for name, tensor in network.state_dict().items()}, errand.weights)


def learn(network: nn.Module, rows: Local, errand: Errand, draw: torch.Generator) -> Weights:
    """SGD with momentum on the cross-entropy."""
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
    for batch in batches(rows, errand.epochs, draw):
        optimizer.zero_grad()
        F.cross_entropy(network(batch.x), batch.y).backward()
        optimizer.step()
    return moved(network, errand)


def ascend(network: nn.Module, rows: Local, errand: Errand, draw: torch.Generator) -> Weights:
    """SGD up the loss, inside a ball around where it begins, until the loss is ``until``."""
    numbers = errand.settings
    optimizer = torch.optim.SGD(network.parameters(), lr=numbers["learning_rate"], momentum=numbers["momentum"])
    for batch in batches(rows, errand.epochs, draw):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(batch.x), batch.y)
        if float(loss.detach()) >= numbers.get("until", float("inf")):
            break
        (-loss).backward()
        nn.utils.clip_grad_norm_(network.parameters(), numbers["clip"])
        optimizer.step()
        network.load_state_dict(onto_ball(network.state_dict(), errand.weights, numbers["radius"]))
    return moved(network, errand)


def distil(network: nn.Module, rows: Local, errand: Errand, draw: torch.Generator) -> Weights:
    """SGD to the softened answers of the weights beside; labels are not looked at.

    Gradients are clipped: what was subtracted from is far from anything.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE / 10, momentum=MOMENTUM)
    teacher = dict(errand.beside)
    for batch in batches(rows, errand.epochs, draw):
        optimizer.zero_grad()
        with torch.no_grad():
            wanted = functional_call(network, teacher, (batch.x,))
        divergence = softened_divergence(wanted, network(batch.x), errand.settings["temperature"])
        (divergence / len(batch.y)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return moved(network, errand)


def statistics(network: nn.Module, rows: Local, errand: Errand, draw: torch.Generator) -> Weights:
    """G and Q over random features of the pixels; every fifth row is held out for the penalty."""
    fold = (torch.arange(len(rows.y)) % 5 == 4).long()
    return as_statistics(ClassSums.empty(FEATURES, 10, "pooled", 2).plus(pixel_features(rows.x), rows.y, fold))


def pixel_features(x: Tensor) -> Tensor:
    """Random features, the same for all clients."""
    random_DM = torch.randn(x.shape[1], FEATURES, generator=torch.Generator().manual_seed(0)) / x.shape[1] ** 0.5
    return random_features(x, random_DM)


WORK: Mapping[str, Callable[[nn.Module, Local, Errand, torch.Generator], Weights]] = {
    "learn": learn,
    "ascend": ascend,
    "distil": distil,
    "statistics": statistics,
}


@dataclass
class History:
    """Rounds in memory."""

    start: Weights
    clients: tuple[str, ...]
    epochs: float
    rounds: list[Round] = field(default_factory=list)
    combine: Combine = averaged_by

    @property
    def final(self) -> Weights:
        """After the last round."""
        return self.rounds[-1].combined if self.rounds else self.start

    @property
    def examples(self) -> Mapping[str, int]:
        """Client -> rows."""
        return {name: reply.examples for one in self.rounds for name, reply in one.told.items()}

    def __len__(self) -> int:
        return len(self.rounds)

    def __getitem__(self, number: int) -> Round:
        return self.rounds[number]


def carried_out(procedure: Procedure, clients: Clients, history: History) -> Weights:
    """Run a procedure to its end; the history has its rounds afterwards."""
    asked: list[tuple[Errand, Replies]] = []
    answers: Replies | None = None
    try:
        while True:
            errand = next(procedure) if answers is None else procedure.send(answers)
            left = errand._replace(who=tuple(name for name in errand.who if name not in errand.known))
            told = [reply for reply in clients.ask(left, len(asked)) if isinstance(reply, Reply)]
            answers = {**errand.known, **{reply.client: reply for reply in told}}
            asked.append((errand, answers))
    except StopIteration as ended:
        final: Weights = ended.value
    after = [*(errand.weights for errand, _ in asked[1:]), final]
    for number, (errand, told_now) in enumerate(asked):
        history.rounds.append(Round(number, errand.weights, told_now, after[number]))
    return final
