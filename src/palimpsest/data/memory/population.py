"""Which records are live, known by the SHA-256 digests of their ids, so that no id outlives its deletion."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from palimpsest.data.memory.purge import NO_COPIES, with_copies
from palimpsest.errors import DataError


def digest_of(record: str) -> str:
    """SHA-256 of an id, as 64 hexadecimal digits."""
    return hashlib.sha256(record.encode()).hexdigest()


class Population:
    """Live records and what they are copies of, as digests.

    Attributes:
        live: digests of all live records.
        sources: digests of the live copies -> digests of the examples they were made of.
    """

    def __init__(self, live: Iterable[str] = (), sources: Mapping[str, str] = NO_COPIES) -> None:
        self.live = set(live)
        self.sources = dict(sources)

    def __contains__(self, record: str) -> bool:
        return digest_of(record) in self.live

    def add(self, ids: Sequence[str], copies_of: Mapping[str, str]) -> None:
        """Make records live, or none of them.

        Raises:
            DataError: an id is live already or occurs twice, or a copy is not among the ids.
        """
        digests = _digests(ids)
        refuse([i for i in ids if digests[i] in self.live], "are in the buffer's population; accepted: new ones")
        refuse(
            [i for i in copies_of if i not in digests], "are called copies and not inserted; accepted: inserted ones"
        )
        self.live.update(digests.values())
        self.sources |= {digests[copy]: digest_of(source) for copy, source in copies_of.items()}

    def owned_by(self, ids: Sequence[str]) -> frozenset[str]:
        """Digests of live records, each known by its own id, and of their copies.

        Raises:
            DataError: an id is not live or occurs twice.
        """
        digests = _digests(ids)
        strangers = [i for i in ids if digests[i] not in self.live]
        refuse(strangers, "are not in the buffer's population; accepted: ids inserted and not deleted since")
        return with_copies(digests.values(), self.sources.items()) & self.live

    def standing_for(self, ids: Sequence[str], copies_of: Mapping[str, str]) -> frozenset[str]:
        """Digests of all live records of some examples, whether these are live themselves or not.

        Args:
            ids: the examples.
            copies_of: record -> the example it stands for, beyond ``sources``.

        Raises:
            DataError: no live record belongs to an id, or an id occurs twice.
        """
        digests = _digests(ids)
        copies = [*self.sources.items(), *((digest_of(copy), digest_of(of)) for copy, of in copies_of.items())]
        owners = self.live | {source for copy, source in copies if copy in self.live}
        strangers = [i for i in ids if digests[i] not in owners]
        refuse(strangers, "have no record in the buffer's population; accepted: examples inserted, or copies of them")
        return with_copies(digests.values(), copies) & self.live

    def remove(self, digests: frozenset[str]) -> None:
        """Let records go; nothing of them stays."""
        self.live -= digests
        self.sources = {copy: source for copy, source in self.sources.items() if copy not in digests}


def refuse(problems: Sequence[str], what: str) -> None:
    """Raise a DataError that counts records and names the first, if there are any."""
    if problems:
        raise DataError(f"{len(problems)} records (first: {problems[0]!r}) {what}")


def _digests(ids: Sequence[str]) -> dict[str, str]:
    """Digest of each id, in order; an id may occur once."""
    refuse([record for record, times in Counter(ids).items() if times > 1], "occur twice; accepted: each id once")
    return {record: digest_of(record) for record in ids}
