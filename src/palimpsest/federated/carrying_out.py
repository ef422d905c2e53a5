"""Carrying a procedure out: rounds are asked, written down as they are heard, and heard again after a death.

    errand of a new generator -> is that round on the disk? its answers, and nobody is asked
                              -> is a part of it there? only those who have not answered are asked
                              -> else all are; each answer is on the disk before the next is waited for

A client that fails, dies or answers with nonsense is absent from its round, with the reason, and asked again in the
next. A round counts if at least half of those that were asked have answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from palimpsest.companions.round_record import Absent, Replies, Reply, Weights
from palimpsest.companions.round_writing import Heard, RoundWriter
from palimpsest.errors import DivergedError, FederationError
from palimpsest.federated.arithmetic import l2_norm, turned
from palimpsest.federated.procedure import Clients, Errand, Procedure
from palimpsest.in_words import so_many
from palimpsest.models.scope import tensor_digest

QUORUM = 0.5
"""Share of the clients that were asked who must answer in every round."""

SILENT = "did not answer"

ToldRound = Callable[["RoundFacts"], None]


class RoundFacts(NamedTuple):
    """What a round took, without tensors.

    Attributes:
        number: counted from 0.
        what: kind of local work.
        asked: names of the clients that were asked; those whose answer was known are not among them.
        known: names of those whose answer was taken from a history.
        told: names of those whose answer counts.
        absent: name -> why it did not answer.
        loss: mean over the rows of those who answered, before their local work; None where nobody said it.
        down: bytes that were sent to clients.
        up: bytes of their answers.
        seconds: of the wall clock, over all tries.
        client_seconds: of the clients' own clocks, summed.
        norms: name -> L2 norm of its change; of other work than learning none.
        turned: names of those whose change pointed against that of all others.
    """

    number: int
    what: str
    asked: tuple[str, ...]
    known: tuple[str, ...]
    told: tuple[str, ...]
    absent: Mapping[str, str]
    loss: float | None
    down: int
    up: int
    seconds: float
    client_seconds: float
    norms: Mapping[str, float] = MappingProxyType({})
    turned: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**self._asdict(), "absent": dict(self.absent), "norms": dict(self.norms)}


def carry_out(procedure: Procedure, clients: Clients, writer: RoundWriter, told: ToldRound) -> dict[str, torch.Tensor]:
    """Carry a procedure out, or on; what came out is written down as well.

    Args:
        procedure: new, however much of it was carried out before.
        clients: who is asked.
        writer: of the rounds.
        told: hears of every round that is over, also of those that were over before.

    Returns:
        What came out.

    Raises:
        FederationError: fewer than half of those that were asked have answered.
        ModelError: a record was changed.
    """
    number, replies = 0, None
    try:
        while True:
            errand = next(procedure) if replies is None else procedure.send(replies)
            replies = _round(errand, number, clients, writer)
            told(round_facts(writer, number))
            number += 1
    except StopIteration as stop:
        final: Weights = stop.value
    writer.end(final)
    return dict(final)


def _round(errand: Errand, number: int, clients: Clients, writer: RoundWriter) -> Replies:
    """The answers of one round, in the order in which the clients were asked."""
    heard = writer.begin(number, errand.weights, _said(errand), errand.who)
    if not heard.closed:
        heard = _ask_clients(errand, number, clients, writer, heard)
    return {name: heard.told[name] for name in errand.who if name in heard.told}


def _ask_clients(errand: Errand, number: int, clients: Clients, writer: RoundWriter, heard: Heard) -> Heard:
    """Ask those who have not answered, and close the round."""
    started, found = time.perf_counter(), {**heard.told, **_known(errand, number, writer, heard)}
    left = tuple(name for name in errand.who if name not in found)
    absent: dict[str, str] = {}
    if left:
        told, why = _heard_from(clients.ask(errand._replace(who=left, known={}), number), errand, number, writer)
        found |= told
        absent = {name: why.get(name, SILENT) for name in left if name not in found}
    _check_quorum(errand, number, found, absent)
    ordered = {name: found[name] for name in errand.who if name in found}
    closed = Heard(ordered, tuple(Absent(*one) for one in absent.items()), closed=True)
    writer.close(number, {**_facts(errand, writer, ordered), "seconds": time.perf_counter() - started}, closed)
    return closed


def _heard_from(
    answers: Iterator[Reply | Absent], errand: Errand, number: int, writer: RoundWriter
) -> tuple[dict[str, Reply], dict[str, str]]:
    """Answers, each written down as it comes, and why others did not answer."""
    told, why = dict[str, Reply](), dict[str, str]()
    for answer in _sound(answers, errand):
        if isinstance(answer, Absent):
            why[answer.client] = answer.why
        else:
            writer.hear(number, answer)
            told[answer.client] = answer
    return told, why


def _known(errand: Errand, number: int, writer: RoundWriter, heard: Heard) -> dict[str, Reply]:
    """Answers from a history that this round does not have yet, written down."""
    found = {name: reply for name, reply in errand.known.items() if name in errand.who and name not in heard.told}
    for reply in found.values():
        writer.hear(number, reply)
    return found


def _facts(errand: Errand, writer: RoundWriter, told: Replies) -> dict[str, Any]:
    """What the record of a round says besides."""
    sent = sum(tensor.nbytes for tensor in (*errand.weights.values(), *errand.beside.values()))
    known = writer.marks(set(errand.known) & set(told))
    changes = {name: reply.delta for name, reply in told.items()} if errand.what == "learn" else {}
    norms = {writer.key.of_id(name): l2_norm(delta) for name, delta in changes.items()}
    said = {"what": errand.what, "epochs": errand.epochs, "known": known, "sent": sent, "norms": norms}
    return {**said, "turned": writer.marks(turned(changes))}


def _said(errand: Errand) -> dict[str, Any]:
    """What is asked besides weights and names."""
    beside = {name: tensor_digest(tensor) for name, tensor in errand.beside.items()}
    said = {"what": errand.what, "epochs": errand.epochs, "settings": dict(errand.settings)}
    return {**said, "beside": beside} if beside else said


def _check_quorum(errand: Errand, number: int, found: Replies, absent: Mapping[str, str]) -> None:
    """Refuse a round that too few have answered; what they said stays."""
    if len(found) >= QUORUM * len(errand.who):
        return
    lost = [name for name, why in absent.items() if why.endswith(DivergedError.remedy)]
    diverged = len(found) + len(lost) >= QUORUM * len(errand.who)
    first = lost[0] if diverged else next(iter(absent))
    remedy = "the same command again asks only those who have not answered"
    if diverged:  # local work draws nothing anew
        remedy = (
            "the same command would lead there again: remove the unfinished run (palimpsest clean), and give a smaller "
            "--lr, or of an erasure another --by"
        )
    raise FederationError(
        f"round {number + 1}: {len(found)} of {so_many(len(errand.who), 'client')} answered, and half must; first of "
        f"the absent: {first} ({absent[first]}); {remedy}",
        diverged,
    )


def _sound(answers: Iterator[Reply | Absent], errand: Errand) -> Iterator[Reply | Absent]:
    """Every answer once, and none that is no answer to what was asked."""
    seen: set[str] = set()
    for answer in answers:
        if answer.client in errand.who and answer.client not in seen:
            seen.add(answer.client)
            why = "" if isinstance(answer, Absent) else refused_for(answer, errand)
            yield Absent(answer.client, why) if why else answer


def refused_for(reply: Reply, errand: Errand) -> str:
    """Why an answer does not count, in words; "" = it does.

    Args:
        reply: as it came.
        errand: that it answers.
    """
    if any(tensor.is_floating_point() and not bool(tensor.isfinite().all()) for tensor in reply.delta.values()):
        return "answered with numbers that are not finite"
    if reply.examples < 1:
        return "answered from no rows"
    if errand.what == "statistics":
        return ""
    shapes = {name: tensor.shape for name, tensor in reply.delta.items()}
    if shapes != {name: tensor.shape for name, tensor in errand.weights.items()}:
        return "answered with other tensors than it was sent: it has another model"
    return ""


def round_facts(writer: RoundWriter, number: int) -> RoundFacts:
    """What a round took, from its record alone."""
    record = writer.ledger.record(number)
    told = {writer.called(one["client"]): one for one in record["told"]}
    known = tuple(sorted(map(writer.called, record["known"])))
    answered = tuple(name for name in told if name not in known)
    gone = {writer.called(one["client"]): str(one["why"]) for one in record["absent"]}
    return RoundFacts(
        number=number,
        what=record["what"],
        asked=(*answered, *gone),
        known=known,
        told=tuple(told),
        absent=gone,
        loss=_mean_loss([told[name] for name in sorted(told)]),
        down=record["sent"] * (len(answered) + len(gone)),
        up=sum(told[name]["bytes"] for name in answered),
        seconds=float(record["seconds"]),
        client_seconds=sum(told[name]["seconds"] for name in answered),
        norms={writer.called(mark): float(norm) for mark, norm in record.get("norms", {}).items()},
        turned=tuple(sorted(map(writer.called, record.get("turned", ())))),
    )


def _mean_loss(told: Sequence[Mapping[str, Any]]) -> float | None:
    """By rows, of those who said one."""
    said = [one for one in told if one["loss"] is not None]
    rows = sum(one["examples"] for one in said)
    return sum(one["loss"] * one["examples"] for one in said) / rows if rows else None
