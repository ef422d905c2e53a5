"""Questions to a black box of any kind: the ledger, retries, probes. One object for all copies of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
import torch

from palimpsest.data.read.table import one_line
from palimpsest.durable import innermost_held
from palimpsest.errors import EndpointError
from palimpsest.models.black_boxes.box import NUM_PROBES, BlackBoxFacts, Numbers
from palimpsest.models.endpoint import Endpoint, NotAnswered, NotPaid, is_too_long, waiting
from palimpsest.models.query_ledger import QUERIES, QueryLedger

_ALIKE = 1e-3
_LEDGERS: WeakValueDictionary[tuple[Path, str], QueryLedger] = WeakValueDictionary()


class _Asks(Protocol):
    def ask(self, questions: Sequence[Any], key: str) -> Sequence[Numbers]: ...


class AskedFunction:
    """A function of Python in the place of an endpoint."""

    def __init__(self, function: Callable[[Any], Any], facts: BlackBoxFacts) -> None:
        self.function, self.facts = function, facts

    def ask(self, questions: Sequence[Any], key: str) -> Sequence[Numbers]:
        """Its answers, found to be some.

        Raises:
            EndpointError: it fails, or they are none.
        """
        given = self.facts.box.asked_of_function(questions)
        try:
            with torch.no_grad():
                said = self.function(*given)
        except Exception as error:  # whatever the caller's code raises
            said = one_line(error)
            raise EndpointError(f"the function {self.facts.where} failed ({type(error).__name__}: {said})") from error
        return self.facts.box.read_of_function(said, questions, self.facts)


class Questions:
    """Asks what is not known yet, and remembers what it was told.

    Attributes:
        facts: of the black box.
        expected: answers to the probes when a version was made; None = nothing to be compared with.
    """

    def __init__(
        self,
        facts: BlackBoxFacts,
        expected: Sequence[Sequence[float]] | None = None,
        function: Callable[[Any], Any] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.facts, self.expected = facts, expected
        how = {} if sleep is None else {"sleep": sleep}
        self._asks: _Asks = Endpoint(facts, **how) if function is None else AskedFunction(function, facts)
        self._own = QueryLedger(None, facts.identity, facts.budget)
        self._known_alike: QueryLedger | None = None
        self._ledgers: list[QueryLedger] = []

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Questions:
        """A copy of a model asks the same box."""
        return self

    @property
    def ledger(self) -> QueryLedger:
        """That of the run whose folder is held, else one in memory."""
        folder = innermost_held()
        if folder is None:
            return self._own
        key = (folder / QUERIES, self.facts.identity)
        found = _LEDGERS.get(key)
        if found is None or (not key[0].exists() and found.spent):
            found = _LEDGERS[key] = QueryLedger(key[0], self.facts.identity, self.facts.budget)
        found.budget = self.facts.budget
        if not any(one is found for one in self._ledgers):
            self._ledgers.append(found)  # alive as long as this
        return found

    def answers(self, questions: Sequence[Any]) -> Sequence[Numbers]:
        """Answers to them; what was asked before costs nothing."""
        self.probed()
        return self._told(questions)

    def probed(self) -> Sequence[Numbers]:
        """Answers to the probes, asked once for a ledger; nothing where none are kept and none are expected.

        Raises:
            EndpointError: they are not those that were expected.
        """
        ledger = self.ledger
        if ledger.path is None and self.expected is None:
            return ()
        probes = self.facts.box.probes(self.facts)
        if self._known_alike is not ledger:
            told = self._told(probes)
            self.facts.box.check_probes(told, self.facts)
            self._check_alike(told)
            self._known_alike = ledger
        return [ledger.answers[key] for key in map(self.facts.box.digest, probes)]

    def _check_alike(self, told: Sequence[Numbers]) -> None:
        if self.expected is None:
            return
        compared = self.facts.box.compared
        pairs = zip(told, self.expected, strict=True)
        gap = max(float(np.abs(np.subtract(compared(one), compared(tuple(other)))).max()) for one, other in pairs)
        if gap > _ALIKE:
            raise EndpointError(
                f"{self.facts.where} answers the {NUM_PROBES} probes otherwise than when this "
                f"version was made (largest difference {gap:.3g}): the model behind it changed; learn the version anew"
            )

    def _told(self, questions: Sequence[Any]) -> Sequence[Numbers]:
        keys, ledger = [self.facts.box.digest(one) for one in questions], self.ledger
        new = {key: one for key, one in zip(keys, questions, strict=True) if key not in ledger.answers}
        size = self.facts.batch_size
        for start in range(0, len(new), size):
            part = list(new)[start : start + size]
            self._ask(ledger, part, [new[key] for key in part])
        return [ledger.answers[key] for key in keys]

    def _ask(self, ledger: QueryLedger, keys: Sequence[str], questions: Sequence[Any]) -> None:
        """One request, tried again where that may help."""
        name = hashlib.sha256("".join(keys).encode()).hexdigest()
        for tries in range(self.facts.retries + 1):
            number = ledger.intend(keys)
            try:
                found = self._asks.ask(questions, name)
            except NotPaid as refusal:
                ledger.refuse(number, str(refusal).split(";")[0])
                self._wait_or_stop(str(refusal), tries, again=refusal.again, told=refusal.after)
            except NotAnswered as silence:
                self._wait_or_stop(str(silence), tries, again=True)
            else:
                ledger.answer(number, dict(zip(keys, found, strict=True)))
                return

    def _wait_or_stop(self, why: str, tries: int, *, again: bool, told: float | None = None) -> None:
        seconds = waiting(tries, told, self.facts.wait)
        if again and tries < self.facts.retries and not is_too_long(seconds):
            getattr(self._asks, "sleep", lambda _seconds: None)(seconds)
            return
        tried = f" after {tries + 1} tries" if tries else ""
        longer = f"; it asks to wait {seconds:.0f} s" if is_too_long(seconds) else ""
        kept = "; what was answered is kept" if self.ledger.path is not None else ""
        raise EndpointError(
            f"{self.facts.url} gives no answer{tried}: {why}{longer}{kept}; the same command goes on once it answers"
        )
