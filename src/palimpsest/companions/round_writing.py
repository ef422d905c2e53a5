"""Writing rounds down as they happen: the weights first, each answer as it comes, and the record when all have come.

Whoever dies in between finds, of the round at hand, the weights and the answers that came; nobody is asked twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from palimpsest.companions.round_files import (
    read_signed_json,
    read_signed_tensors,
    round_folder,
    seal_in_file,
    write_signed_json,
    write_signed_tensors,
)
from palimpsest.companions.round_record import Absent, Reply, Weights
from palimpsest.companions.rounds import RoundLedger, RoundsIndex, reply_from, reply_said
from palimpsest.errors import ModelError
from palimpsest.models.scope import tensor_digest
from palimpsest.records import digest


class Heard(NamedTuple):
    """What was heard of a round.

    Attributes:
        told: name -> answer.
        absent: who did not answer; only of a round that is closed.
        closed: its record is there: it is over.
    """

    told: dict[str, Reply]
    absent: tuple[Absent, ...] = ()
    closed: bool = False


class RoundWriter:
    """The rounds of a run in progress."""

    def __init__(self, ledger: RoundLedger, names: Collection[str]) -> None:
        """A writer of rounds.

        Args:
            ledger: in the folder of the run.
            names: of all clients that may be asked.
        """
        self.ledger, self.key = ledger, ledger.key
        self.names = {self.key.of_id(name): name for name in names}

    def marks(self, names: Collection[str]) -> list[str]:
        """Of some names, sorted."""
        return sorted(map(self.key.of_id, names))

    def called(self, mark: str) -> str:
        """The name of a client; of one that is not known its mark."""
        return self.names.get(mark, mark)

    def begin(self, number: int, weights: Weights, errand: Mapping[str, Any], who: Collection[str]) -> Heard:
        """Write down what is asked in a round, or find what was heard of it.

        Args:
            number: of the round.
            weights: that the clients are sent.
            errand: what is asked of them besides, as JSON without names.
            who: names of the clients.

        Raises:
            ModelError: a record was changed, or something else was asked when this round was recorded.
        """
        said = {"errand": digest([errand, self.marks(who), _digest_of(weights)])}
        path = self.ledger.folder / round_folder(number) / "weights.safetensors"
        self._enter(number, who)
        if not path.exists():
            write_signed_tensors(path, weights, said, self.key)
            return Heard({})
        _, there = read_signed_tensors(path, self.key)
        if there != said:
            raise ModelError(
                f"in {path.parent} something else was asked than the same command would ask now; remove the unfinished "
                "run (palimpsest clean), and begin anew"
            )
        return self._heard(number)

    def _enter(self, number: int, who: Collection[str]) -> None:
        """Have the index say that these clients were asked, before anything of theirs can be there."""
        index = self.ledger.index
        new = {self.key.of_id(name): number for name in who if self.key.of_id(name) not in index.asked}
        if new:
            self.ledger.write(index._replace(asked={**index.asked, **new}))

    def _heard(self, number: int) -> Heard:
        """What was recorded of a round that was begun before."""
        folder = self.ledger.folder / round_folder(number)
        if (folder / "round.json").exists():
            if number >= self.ledger.index.end:  # it died between the record and the index
                self._count(number, read_signed_json(folder / "round.json", self.key))
            _, there, absent = self.ledger.heard(number, self.names)
            return Heard(there, absent, closed=True)
        told = {}
        for path in sorted(folder.glob("*.safetensors")):
            if path.name != "weights.safetensors":
                delta, said = read_signed_tensors(path, self.key)
                told[self.names[path.stem]] = reply_from(self.names[path.stem], delta, said)
        return Heard(told)

    def begin_again(self) -> None:
        """Drop all rounds of an attempt that leads nowhere; whoever dies meanwhile makes that attempt again."""
        self.ledger.write(RoundsIndex(self.key.name))
        for path in sorted(self.ledger.folder.glob("round-*"), reverse=True):
            shutil.rmtree(path)

    def hear(self, number: int, reply: Reply) -> None:
        """Write an answer down; on return it is on the disk."""
        path = self.ledger.folder / round_folder(number) / f"{self.key.of_id(reply.client)}.safetensors"
        write_signed_tensors(path, reply.delta, reply_said(reply), self.key)

    def close(self, number: int, facts: Mapping[str, Any], heard: Heard) -> None:
        """Write down that a round is over.

        Args:
            number: of the round.
            facts: what else is said of it, as JSON without names.
            heard: who answered, and who did not.
        """
        folder, index = self.ledger.folder / round_folder(number), self.ledger.index
        told = [(self.key.of_id(name), reply) for name, reply in heard.told.items()]
        record = {
            "number": number,
            "before": index.head,
            "weights": seal_in_file(folder / "weights.safetensors", self.key),
            "told": [
                {
                    "client": mark,
                    "seal": seal_in_file(folder / f"{mark}.safetensors", self.key),
                    "bytes": sum(tensor.nbytes for tensor in reply.delta.values()),
                    **reply_said(reply),
                }
                for mark, reply in told
            ],
            "absent": [{"client": self.key.of_id(one.client), "why": one.why} for one in heard.absent],
            **facts,
        }
        write_signed_json(folder / "round.json", record, self.key)
        self._count(number, record)

    def _count(self, number: int, record: Mapping[str, Any]) -> None:
        if record["before"] != self.ledger.index.head or number != self.ledger.index.end:
            raise ModelError(f"{self.ledger.folder}: round {number} does not follow the one before it; begin anew")
        self.ledger.write(self.ledger.index._replace(end=number + 1, head=digest(dict(record))))

    def end(self, final: Weights) -> None:
        """Write down what came out."""
        if not self.ledger.index.ended:
            write_signed_tensors(self.ledger.folder / "final.safetensors", final, {"errand": "final"}, self.key)
            self.ledger.write(self.ledger.index._replace(ended=True))

    def settle(self, model: str, gone: str = "") -> None:
        """Bind the rounds to the version that they led to; drop those that a client who is gone took part in.

        Args:
            model: digest of the version.
            gone: name of the client; only rounds after the last one that it was asked in stay. "" = nobody.
        """
        ledger = self.ledger
        first = self._first_without(self.key.of_id(gone))
        left = [record for record in ledger.records() if record["number"] >= first]
        asked: dict[str, int] = {}
        for record in left:
            for mark in _asked_in(record):
                asked.setdefault(mark, record["number"])
        head = ledger.index.head if left else ""
        ledger.write(ledger.index._replace(model=model, first=first, head=head, asked=asked))
        for path in sorted(ledger.folder.glob("round-*")):
            if path.name < round_folder(first):
                shutil.rmtree(path)

    def _first_without(self, mark: str) -> int:
        """Number of the first round that a client is in no more."""
        theirs = [record["number"] for record in self.ledger.records() if mark in _asked_in(record)]
        return max(theirs) + 1 if theirs else self.ledger.index.first


def _asked_in(record: Mapping[str, Any]) -> list[str]:
    """Marks of the clients that were asked in a round, or whose answer was known."""
    return [one["client"] for one in (*record["told"], *record["absent"])]


def _digest_of(weights: Weights) -> str:
    return digest({name: tensor_digest(tensor) for name, tensor in weights.items()})
