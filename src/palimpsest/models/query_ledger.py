"""What was asked of a model that answers for money: an append-only file, written before anything is sent.

    {"ledger": "palimpsest.queries/1", "endpoint": identity}
    {"asked": [digest, ...], "number": 7}                      durable before the request leaves
    {"answers": {digest: [p, ...], ...}, "number": 7, "sum": digest}      their own; or, as nothing was paid,
    {"refused": "why", "number": 7}

An answer is kept under the digest of what was asked, so that nothing is paid for twice. A process that dies after it
asked and before it wrote the answer leaves questions that count as spent: whether they were billed nobody knows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palimpsest.durable import check_held_still
from palimpsest.errors import EndpointError, ModelError
from palimpsest.models.black_boxes.box import Numbers
from palimpsest.records import digest

QUERIES = "queries.jsonl"
"""Its name in the folder of a run."""
SCHEMA = "palimpsest.queries/1"


class QueryLedger:
    """Questions, answers and what they cost.

    Attributes:
        path: of the file; None keeps it in memory.
        budget: questions that may be spent; None = no limit.
        answers: digest of a question -> its answer.
    """

    def __init__(self, path: Path | None, endpoint: str, budget: int | None = None) -> None:
        """Open a ledger, or begin one with the first question.

        Args:
            path: of its file.
            endpoint: identity of what is asked.
            budget: questions at most.

        Raises:
            ModelError: the file is of another endpoint, or none of ours.
        """
        self.path, self.endpoint, self.budget = path, endpoint, budget
        self.answers: dict[str, Numbers] = {}
        self._open: dict[int, tuple[str, ...]] = {}  # asked, and neither answered nor refused
        self._next, self._begun = 0, False
        if path is not None and path.exists():
            self._read(path)

    @property
    def lost(self) -> int:
        """Questions without an answer: of a process that died, of a time-out, of an answer that could not be used."""
        return sum(len(asked) for asked in self._open.values())

    @property
    def spent(self) -> int:
        """Questions that count: answered ones, each once, and those without an answer."""
        return len(self.answers) + self.lost

    def intend(self, digests: Sequence[str]) -> int:
        """Write down what is about to be asked; on return it is on the disk.

        Args:
            digests: of questions that have no answer yet, each once.

        Returns:
            The number of the request.

        Raises:
            EndpointError: the budget does not cover them; nothing was written, and nothing is to be sent.
        """
        if self.budget is not None and self.spent + len(digests) > self.budget:
            raise EndpointError(
                f"the budget of {self.budget} queries is used up: {self.spent} were spent and {len(digests)} more are "
                "needed; raise budget in the description of the black box, and the same command goes on"
            )
        number, self._next = self._next, self._next + 1
        self._append({"asked": list(digests), "number": number})
        self._open[number] = tuple(digests)
        return number

    def answer(self, number: int, answers: Mapping[str, Numbers]) -> None:
        """Write down the answers of a request; on return they are on the disk."""
        kept = {key: list(value) for key, value in answers.items()}
        self._append({"answers": kept, "number": number, "sum": digest(kept)})
        self._open.pop(number)
        self.answers.update(answers)

    def refuse(self, number: int, why: str) -> None:
        """Write down that a request was turned away unanswered, so that nothing was paid."""
        self._append({"refused": why, "number": number})
        self._open.pop(number)

    def _append(self, record: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        check_held_still(self.path)
        lines = [] if self._begun else [{"ledger": SCHEMA, "endpoint": self.endpoint}]
        text = "".join(json.dumps(line) + "\n" for line in (*lines, record))
        with self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        self._begun = True

    def _read(self, path: Path) -> None:
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:  # a process died while it wrote: what it wrote down last was never sent, or is an answer that is lost
            with path.open("r+b") as file:
                file.truncate(len(whole) + bool(whole))
        try:
            records = [json.loads(line) for line in whole.splitlines()]
            for record in records:
                self._take(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is no ledger of queries ({type(error).__name__}); give another output") from None

    def _take(self, record: Mapping[str, Any]) -> None:
        if "ledger" in record:
            if record["ledger"] != SCHEMA or record["endpoint"] != self.endpoint:
                raise ModelError(f"{self.path} is the ledger of another endpoint; give another output")
            self._begun = True
            return
        number = int(record["number"])
        self._next = max(self._next, number + 1)
        if "asked" in record:
            self._open[number] = tuple(record["asked"])
            return
        self._open.pop(number)
        answers = record.get("answers", {})
        if "sum" in record and record["sum"] != digest(answers):
            raise ModelError(
                f"answers in {self.path} were changed after they were written, or are damaged; "
                "bring it back as it was, or give another output"
            )
        for key, value in answers.items():
            self.answers[key] = tuple(value)
