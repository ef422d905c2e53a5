"""The rounds of a version as an eraser sees them: under the clients' names, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property

from torch import Tensor

from palimpsest.companions.round_record import Replies, Round, Weights
from palimpsest.companions.rounds import RoundLedger
from palimpsest.federated.averaging import averaged_by
from palimpsest.federated.procedure import Combine


class RecordedRounds:
    """The history of a version."""

    def __init__(
        self, ledger: RoundLedger, names: Collection[str], epochs: float, combine: Combine = averaged_by
    ) -> None:
        """A history.

        Args:
            ledger: rounds under marks.
            names: of the clients, as the plan of the version has them.
            epochs: local passes of one round.
            combine: the rule that the federation learned by.
        """
        self._ledger = ledger
        self._names = {ledger.key.of_id(name): name for name in names}
        self.epochs = epochs
        self._combine = combine

    def combine(self, weights: Weights, answers: Replies) -> dict[str, Tensor]:
        """By the rule that the federation learned by."""
        return self._combine(weights, answers)

    @property
    def start(self) -> Weights:
        """Weights before the first round."""
        return self._ledger.start

    @property
    def final(self) -> Weights:
        """Weights after the last one."""
        return self._ledger.final

    @cached_property
    def examples(self) -> Mapping[str, int]:
        """Client -> its rows, of all who ever answered."""
        found = {one["client"]: int(one["examples"]) for record in self._ledger.records() for one in record["told"]}
        return {name: found[mark] for mark, name in sorted(self._names.items(), key=lambda at: at[1]) if mark in found}

    @property
    def clients(self) -> tuple[str, ...]:
        """Names of all who answered, sorted."""
        return tuple(self.examples)

    def __len__(self) -> int:
        """Number of rounds."""
        return len(self._ledger)

    def __getitem__(self, number: int) -> Round:
        """One round; numbers begin at 0, whatever they were recorded under.

        Raises:
            IndexError: there is no such round.
            ModelError: its record was changed.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        place = number % len(self)
        return self._ledger.round(self._ledger.index.first + place, self._names)._replace(number=place)
