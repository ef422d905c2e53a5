"""Random pairing: a uniform sample of a population that grows and shrinks.

Source: Gemulla, Lehner, Haas 2006, "A dip in the reservoir". With M slots, n live records, and c1 + c2 deletions that
no insertion has made up for yet, c1 of them from the sample:

    delete x:  n -= 1;  x in the sample: remove it, c1 += 1;  else c2 += 1
    insert x:  n += 1;  c1 + c2 = 0: a free slot takes x; if there is none, x replaces a random record
                                     with probability M / n
                        else: with probability c1 / (c1 + c2) x is added, c1 -= 1;  else x is skipped, c2 -= 1

Each live record is in the sample with the same probability, and |sample| + c1 = min(M, n + c1 + c2) at any time.
After deletions the sample may hold fewer than min(M, n) records: what it once skipped cannot be fetched back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from palimpsest.data.draws import below, random_words
from palimpsest.errors import DataError, PlanError


@dataclass
class RandomPairing:
    """The sample and its counters. It trusts its caller that records are inserted once and deleted when live.

    Attributes:
        capacity: M, >= 1.
        seed: of the random words; with ``draws`` it determines every choice to come.
        n: live records, in the sample or not.
        c1: deletions from the sample not made up for.
        c2: deletions outside the sample not made up for.
        draws: random words used so far.
        slots: the sample.
    """

    capacity: int
    seed: int
    n: int = 0
    c1: int = 0
    c2: int = 0
    draws: int = 0
    slots: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise PlanError(f"a replay buffer of {self.capacity} records; accepted: a capacity of 1 or more")
        counters = (self.n, self.c1, self.c2, self.draws)
        full = min(self.capacity, self.n + self.c1 + self.c2)
        if min(counters) < 0 or len(set(self.slots)) + self.c1 != full or len(self.slots) > self.n:
            raise DataError(
                f"{len(self.slots)} records with n, c1, c2, draws = {counters} are no sample of {self.capacity}; "
                "accepted: values that a buffer saved"
            )

    def insert(self, records: Sequence[str]) -> None:
        """Offer new records, one after the other."""
        drawn = iter(random_words(self.seed, "replay", self.draws, len(records)))
        for record in records:
            self.n += 1
            self._offer(record, drawn)

    def delete(self, inside: Collection[str], outside: int) -> None:
        """Take out records of the sample, and count deletions that missed it.

        Args:
            inside: records to delete that are in the sample.
            outside: how many live records outside the sample are deleted.
        """
        self.slots = [record for record in self.slots if record not in inside]
        self.n -= len(inside) + outside
        self.c1 += len(inside)
        self.c2 += outside

    def _offer(self, record: str, drawn: Iterator[int]) -> None:
        pending = self.c1 + self.c2
        if not pending and len(self.slots) < self.capacity:
            self.slots.append(record)
            return
        choice = below(pending or self.n, next(drawn))
        self.draws += 1
        if pending:
            self._pair(record, taken=choice < self.c1)
        elif choice < self.capacity:
            self.slots[choice] = record

    def _pair(self, record: str, *, taken: bool) -> None:
        """Make up for one deletion: from the sample (taken) or outside it."""
        if taken:
            self.slots.append(record)
            self.c1 -= 1
        else:
            self.c2 -= 1
