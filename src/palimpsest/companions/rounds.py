"""The rounds of a federation: the weights before each, and what every client answered, so that one can be taken out.

Source: the history of FedEraser, Liu et al. 2021, "Enabling Efficient Client-Level Data Removal from Federated
Learning Models": the server keeps each client's updates.

    round-0007/weights.safetensors      what all clients were sent
    round-0007/<mark>.safetensors       one client's answer
    round-0007/round.json               who answered, who did not and why; bears the seal of the round before it
    final.safetensors                   what came out of the last one
    index.json                          which rounds count, and which client was asked from which round on

All of it is signed (``round_files.py``). Clients are known by the marks of their names. Weights of a round bear what
every client of an earlier one did. So a purge of a client goes back to before it was first asked: of a client that was
there from the beginning nothing stays but the weights that all began with. Files are deleted first, and the index is
written then: who dies in between has a client that is still reported as held, and a second purge ends it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from palimpsest.companions.companion import Change, Companion, Forgotten, Held, bytes_in
from palimpsest.companions.marks import MarkKey
from palimpsest.companions.round_files import (
    changed,
    read_signed_json,
    read_signed_tensors,
    round_folder,
    write_signed_json,
    write_signed_tensors,
)
from palimpsest.companions.round_record import Absent, Reply, Round, Weights
from palimpsest.durable import check_held_still
from palimpsest.errors import ModelError, PalimpsestError
from palimpsest.records import digest

_WEIGHTS, _RECORD, _FINAL, _INDEX = "weights.safetensors", "round.json", "final.safetensors", "index.json"


class RoundsIndex(NamedTuple):
    """Which rounds count, and whose.

    Attributes:
        key: name of the key of the seals and marks.
        model: digest of the version that the last round led to; "" until it is whole.
        first: number of the first round that counts.
        end: number after the last one.
        head: digest of the record of the last one; it bears that of the one before, and so on.
        asked: mark of a client -> number of the first round that it was asked in.
        ended: the procedure has returned, and ``final.safetensors`` is there.
    """

    key: str
    model: str = ""
    first: int = 0
    end: int = 0
    head: str = ""
    asked: Mapping[str, int] = {}
    ended: bool = False


class RoundLedger(Companion):
    """All rounds of a version, each read when it is asked for."""

    kind = "rounds"
    keyed_by = "client"

    @classmethod
    def open(cls, folder: Path, key: MarkKey) -> Self:
        """The rounds in a folder; none where it is not there.

        Raises:
            ModelError: the index was changed, or made with another key.
        """
        found = cls(folder, key)
        _ = found.index
        return found

    @cached_property
    def index(self) -> RoundsIndex:
        """Which rounds there are."""
        path = self.folder / _INDEX
        if not path.exists():
            return RoundsIndex(self.key.name)
        return RoundsIndex(**read_signed_json(path, self.key))

    def __len__(self) -> int:
        """Rounds that count."""
        return self.index.end - self.index.first

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those of some clients that were asked in a round."""
        return self.key.known(ids, self.index.asked)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Go back to before the first of these clients was asked."""
        held = self.holds(ids)
        if not held:
            return Forgotten()
        before = self.held().records
        self._go_back_to(min(self.index.asked[self.key.of_id(name)] for name in held))
        stale = "later rounds were made from theirs; no client can be erased from this version by its rounds any more"
        return Forgotten(held, before - self.held().records, stale)

    def _go_back_to(self, number: int) -> None:
        """Only rounds before this one count; its weights are what came out of them."""
        start = self.folder / round_folder(number) / _WEIGHTS
        if start.exists():
            tensors, said = read_signed_tensors(start, self.key)
            self._write_tensors(self.folder / _FINAL, tensors, said)
        for path in sorted(self.folder.glob("round-*"), reverse=True):
            if path.name >= round_folder(number):
                shutil.rmtree(path)
        there = number > self.index.first
        head = digest(self.record(number - 1)) if there else ""
        asked = {mark: at for mark, at in self.index.asked.items() if at < number}
        self.write(self.index._replace(model="", end=number, head=head, asked=asked))

    def digest(self) -> str:
        """Of the index, which has the digest of the last record, which has that of the one before it."""
        return digest({**self.index._asdict(), "asked": dict(self.index.asked)})

    def held(self) -> Held:
        """Clients, answers and bytes."""
        answers = [path for path in self.folder.glob("round-*/*.safetensors") if path.name != _WEIGHTS]
        return Held(len(self.index.asked), len(answers), bytes_in(self.folder))

    def check_whole(self, model: str, where: str) -> None:
        """Refuse rounds that did not lead to these weights.

        Raises:
            ModelError: they did not, or are purged; or something lies among them that no record counts.
        """
        if strays := self.strays():
            raise ModelError(
                f"{strays[0]} is counted by no record of the rounds of {where}: nothing would be read of it, and its "
                "owner may think it was; move it away"
            )
        if not self.index.ended or self.index.model != model:
            raise ModelError(
                f"the rounds of {where} did not lead to the weights beside them (it was changed or purged since); give "
                "the folder as its run left it, or learn again: palimpsest federated run"
            )

    def strays(self) -> tuple[Path, ...]:
        """Folders of rounds, and answers in them, that no record counts; files of other names are somebody else's."""
        counted = {self.folder / round_folder(number): number for number in range(self.index.first, self.index.end)}
        folders = sorted(self.folder.glob("round-*"))
        found = [folder for folder in folders if folder not in counted]
        for folder in counted.keys() & set(folders):
            known = self._files_of(counted[folder])
            found += [path for path in folder.glob("*.safetensors") if known and path.name not in known]
        return tuple(sorted(found))

    def _files_of(self, number: int) -> frozenset[str]:
        """Names of the tensor files that the record of a round counts; none where it cannot be read, which shows."""
        with suppress(ModelError):
            told = [f"{one['client']}.safetensors" for one in self.record(number)["told"]]
            return frozenset((_WEIGHTS, *told))
        return frozenset()

    def damage(self) -> str:
        """The first record that is missing or was changed."""
        try:
            for number in range(self.index.first, self.index.end):
                self.heard(number, {})
            if self.index.ended:
                _ = self.final
        except PalimpsestError as error:
            return str(error)
        return ""

    def stale_after(self, change: Change) -> str:
        """Whatever moves the weights otherwise leaves rounds that did not lead to them."""
        return "" if self.kind in change.recorded else f"{change.method} changed what the rounds had made"

    def passed_on(self, change: Change) -> Forgotten:
        """Rows that a run forgot are no clients."""
        return Forgotten()

    @property
    def start(self) -> Weights:
        """Weights before the first round that counts."""
        return self.weights(self.index.first) if len(self) else self.final

    @property
    def final(self) -> Weights:
        """Weights after the last one."""
        return read_signed_tensors(self.folder / _FINAL, self.key)[0]

    def weights(self, number: int) -> Weights:
        """Weights that the clients of a round were sent; of the one after the last what came out."""
        if number == self.index.end and self.index.ended:
            return self.final
        return read_signed_tensors(self.folder / round_folder(number) / _WEIGHTS, self.key)[0]

    def record(self, number: int) -> dict[str, Any]:
        """What is written down of a round, checked against its seal and those around it.

        Raises:
            ModelError: it was changed, or another one is in its place.
        """
        path = self.folder / round_folder(number) / _RECORD
        found = read_signed_json(path, self.key)
        if found["number"] != number or (number == self.index.end - 1 and digest(found) != self.index.head):
            raise changed(path)
        if number > self.index.first:
            before = read_signed_json(self.folder / round_folder(number - 1) / _RECORD, self.key)
            if digest(before) != found["before"]:
                raise changed(path)
        return found

    def round(self, number: int, names: Mapping[str, str]) -> Round:
        """One round, read now.

        Args:
            number: as it was recorded.
            names: mark -> name of the clients that are known; others are called by their marks.

        Raises:
            ModelError: something of it was changed.
        """
        weights, told, absent = self.heard(number, names)
        return Round(number, weights, told, self.weights(number + 1), absent)

    def heard(self, number: int, names: Mapping[str, str]) -> tuple[Weights, dict[str, Reply], tuple[Absent, ...]]:
        """What the clients of a round were sent, what they answered, and who did not; as ``round``."""
        record, folder = self.record(number), self.folder / round_folder(number)
        weights, _ = read_signed_tensors(folder / _WEIGHTS, self.key, record["weights"])
        told = [self._reply(folder, one, names) for one in record["told"]]
        absent = tuple(Absent(names.get(one["client"], one["client"]), one["why"]) for one in record["absent"])
        return weights, {one.client: one for one in told}, absent

    def _reply(self, folder: Path, one: Mapping[str, str], names: Mapping[str, str]) -> Reply:
        """An answer that a record names."""
        path = folder / f"{one['client']}.safetensors"
        delta, said = read_signed_tensors(path, self.key, one["seal"])
        return reply_from(names.get(one["client"], one["client"]), delta, said)

    def records(self) -> Iterator[dict[str, Any]]:
        """What is written down of every round that counts."""
        return map(self.record, range(self.index.first, self.index.end))

    def _write_tensors(self, path: Path, tensors: Weights, said: Mapping[str, Any]) -> str:
        return write_signed_tensors(path, tensors, said, self.key)

    def write(self, index: RoundsIndex) -> None:
        """Put a new index in place of the one that is there; on return it is on the disk."""
        check_held_still(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_signed_json(self.folder / _INDEX, {**index._asdict(), "asked": dict(index.asked)}, self.key)
        self.__dict__["index"] = index


def reply_from(client: str, delta: Weights, said: Mapping[str, Any]) -> Reply:
    """An answer from its file."""
    loss = float("nan") if said["loss"] is None else float(said["loss"])
    return Reply(client, delta, int(said["examples"]), loss, float(said["seconds"]))


def reply_said(reply: Reply) -> dict[str, Any]:
    """What stands in the file of an answer beside its tensors; the inverse of ``reply_from``."""
    loss = None if reply.loss != reply.loss else reply.loss
    return {"examples": reply.examples, "loss": loss, "seconds": reply.seconds}


COMPANION = RoundLedger
