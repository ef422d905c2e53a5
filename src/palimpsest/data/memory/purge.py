"""Which records belong to an example that is to be forgotten: itself, and every copy made of it.

A record is an example or an augmented copy (crop, paraphrase, near-duplicate) of one. A copy that stays behind is
learned again by the repair steps while the ascent works against it, and nothing looks wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from palimpsest.errors import DataError

NO_COPIES: Mapping[str, str] = MappingProxyType({})


def with_copies(ids: Iterable[str], copies: Collection[tuple[str, str]]) -> frozenset[str]:
    """Ids, copies of them, copies of the copies, and so on.

    Args:
        ids: examples.
        copies: (copy, source) pairs; a record may be a copy of several sources, or of itself.

    >>> sorted(with_copies(["a"], [("a1", "a"), ("a2", "a1"), ("b1", "b")]))
    ['a', 'a1', 'a2']
    """
    found = frozenset(ids)
    while more := {copy for copy, source in copies if source in found} - found:
        found |= more
    return found


def check_purged(records: Iterable[str], forgotten: Iterable[str], copies_of: Mapping[str, str] = NO_COPIES) -> None:
    """Refuse records that belong to a forgotten example; for use on whatever a loader is about to show.

    Args:
        records: ids of the records.
        forgotten: ids of the examples.
        copies_of: copy -> the example it was made of.

    Raises:
        DataError: how many records are left, and the first of them.
    """
    gone = with_copies(forgotten, copies_of.items())
    left = [record for record in records if record in gone]
    if left:
        source = f", a copy of {copies_of[left[0]]!r}" if left[0] in copies_of else ""
        raise DataError(
            f"{len(left)} records of forgotten examples are left (first: {left[0]!r}{source}); "
            "purge the buffer before loaders are built"
        )
