"""Replay buffer: a uniform sample (``reservoir.py``) of all that was learned and not deleted, deletable by id.

Nothing of a deleted id survives here but its part in the counters c1 and c2. Live records outside the buffer are known
by the digests of their ids alone, and what was recorded of *any* record while the model knew the deleted one (logits,
features) is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from palimpsest.data.memory.population import Population, digest_of, refuse
from palimpsest.data.memory.purge import NO_COPIES, check_purged
from palimpsest.data.memory.reservoir import RandomPairing
from palimpsest.data.saved_json import restored
from palimpsest.errors import DataError, unknown

if TYPE_CHECKING:  # a stream is checked before torch is imported
    from torch import Tensor

Payload = Literal["logits", "features"]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ReplayBuffer:
    """At most ``capacity`` records, each live record with equal probability.

    A record is an example or an augmented copy of one; a copy carries the id of its source and leaves with it.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self._sample = RandomPairing(capacity, seed)
        self._population = Population()
        self._copies_of: dict[str, str] = {}
        self._payloads: dict[str, dict[str, Tensor]] = {kind: {} for kind in get_args(Payload)}

    def __len__(self) -> int:
        return len(self._sample.slots)

    @property
    def capacity(self) -> int:
        """Records that it can hold."""
        return self._sample.capacity

    @property
    def ids(self) -> tuple[str, ...]:
        """Records in the buffer, in the order of their slots."""
        return tuple(self._sample.slots)

    @property
    def copies_of(self) -> dict[str, str]:
        """Copies in the buffer -> the example each was made of."""
        return dict(self._copies_of)

    @property
    def n(self) -> int:
        """Live records, in the buffer or not."""
        return self._sample.n

    @property
    def c1(self) -> int:
        """Deletions from the buffer that no insertion has made up for."""
        return self._sample.c1

    @property
    def c2(self) -> int:
        """Deletions outside the buffer that no insertion has made up for."""
        return self._sample.c2

    def seen(self, record: str) -> bool:
        """Was this record inserted and not deleted since, in the buffer or not?"""
        return record in self._population

    def insert(self, ids: Sequence[str], *, copies_of: Mapping[str, str] = NO_COPIES) -> None:
        """Offer new records to the buffer, one after the other.

        Args:
            ids: records that are not live.
            copies_of: augmented copy -> the example it was made of, for those among ``ids`` that are copies.

        Raises:
            DataError: an id is live already or occurs twice, or a copy is not among the ids; nothing was inserted.
        """
        self._population.add(ids, copies_of)
        self._sample.insert(ids)
        sources = {**self._copies_of, **copies_of}
        self._copies_of = {record: sources[record] for record in self.ids if record in sources}
        self._payloads = {kind: self.payload(kind) for kind in self._payloads}

    def delete(self, ids: Sequence[str]) -> tuple[str, ...]:
        """Take records, and the copies made of them, out of the population; all payloads are dropped.

        Args:
            ids: live records.

        Returns:
            The records that were in the buffer.

        Raises:
            DataError: an id is not live or occurs twice; nothing was deleted.
        """
        return self._remove(self._population.owned_by(ids))

    def purge(self, ids: Sequence[str], *, copies_of: Mapping[str, str] = NO_COPIES) -> tuple[str, ...]:
        """Forget examples: take out every record of theirs, and make sure that none is left.

        Args:
            ids: examples to forget; one of which only copies were inserted is accepted too.
            copies_of: record -> the example it stands for, where ``insert`` was not told, such as near-duplicates.

        Returns:
            The records that were in the buffer.

        Raises:
            DataError: no live record belongs to an id, or an id occurs twice; nothing was deleted.
        """
        removed = self._remove(self._population.standing_for(ids, copies_of))
        check_purged(self.ids, ids, {**self._copies_of, **copies_of})
        return removed

    def _remove(self, doomed: frozenset[str]) -> tuple[str, ...]:
        inside = tuple(record for record in self.ids if digest_of(record) in doomed)
        self._sample.delete(frozenset(inside), len(doomed) - len(inside))
        self._population.remove(doomed)
        self._copies_of = {copy: source for copy, source in self._copies_of.items() if copy not in inside}
        self.drop_payloads()
        return inside

    def record(self, kind: Payload, tensors: Mapping[str, Tensor]) -> None:
        """Keep what the model says now about records of the buffer, detached and copied.

        Args:
            kind: "logits" or "features".
            tensors: record -> tensor of any shape; it replaces one recorded before.

        Raises:
            DataError: the kind is unknown, or a record is not in the buffer.
        """
        present = frozenset(self.ids)
        refuse([i for i in tensors if i not in present], f"cannot have {kind}; accepted: records in the buffer")
        # A copy, because a view of a batch would keep the whole batch's storage alive.
        self._of_kind(kind).update({record: tensor.detach().clone() for record, tensor in tensors.items()})

    def payload(self, kind: str) -> dict[str, Tensor]:
        """What was recorded and not dropped since, in the order of the slots; records without any are left out."""
        kept = self._of_kind(kind)
        return {record: kept[record] for record in self.ids if record in kept}

    def drop_payloads(self) -> None:
        """Drop all logits and features, for the caller to record new ones; every deletion does this by itself."""
        self._payloads = {kind: {} for kind in self._payloads}

    def _of_kind(self, kind: str) -> dict[str, Tensor]:
        if kind not in self._payloads:
            raise DataError(unknown("payload", kind, self._payloads))
        return self._payloads[kind]

    def to_json(self) -> dict[str, Any]:
        """JSON values of all but the payloads, which are tensors and can be recorded again."""
        return {
            "sample": asdict(self._sample),
            "copies_of": self.copies_of,
            "live": sorted(self._population.live),
            "sources": dict(sorted(self._population.sources.items())),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ReplayBuffer:
        """Inverse of ``to_json``: the buffer goes on exactly as the saved one would have.

        Raises:
            DataError: the values are not those of a buffer.
        """
        state = restored(_State, value, "a replay buffer")
        inside = {digest_of(record) for record in state.sample.slots}
        strangers = (inside | state.sources.keys()) - state.live or state.copies_of.keys() - set(state.sample.slots)
        if strangers or len(state.live) != state.sample.n:
            raise DataError(
                "this is not a replay buffer, its records and digests differ; accepted: what was saved as one"
            )
        buffer = cls(state.sample.capacity, state.sample.seed)
        buffer._sample, buffer._copies_of = state.sample, state.copies_of
        buffer._population = Population(state.live, state.sources)
        return buffer


class _State(BaseModel):
    """What ``to_json`` writes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sample: RandomPairing
    copies_of: dict[str, str]
    live: set[Digest]
    sources: dict[Digest, Digest]
