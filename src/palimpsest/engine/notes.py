"""Notes of a run, in words."""

from __future__ import annotations

from collections.abc import Mapping

from palimpsest.audit.words import show
from palimpsest.loop.plural import so_many


def pair_note(stats: Mapping[str, float]) -> str:
    """How forget examples were paired, from ``Pairs.stats``.

    >>> pair_note({"pairs": 18, "distinct_partners": 17, "share_near_copies": 0, "mean_overlap": 0.037})
    '18 pairs with 17 different partners of what stays; they share 0.04 of their 10-grams on average.'
    """
    partners = so_many(int(stats["distinct_partners"]), "different partner")
    said = f"{so_many(int(stats['pairs']), 'pair')} with {partners} of what stays; "
    said += f"they share {show(stats['mean_overlap'])} of their 10-grams on average"
    for key, what in (("share_near_copies", "nearly copies"), ("share_identical", "the same text")):
        if found := round(stats.get(key, 0) * stats["pairs"]):
            said += f"; {found} of them {'is' if found == 1 else 'are'} {what}"
    if stats.get("duplicates"):
        said += f"; for {so_many(int(stats['duplicates']), 'example')} nothing but near-copies was there"
    return f"{said}."
