"""Show, and remove, what a run that did not end left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palimpsest.engine.left_behind import Left


def clean(place: str | Path, *, yes: bool = False) -> Left:
    """Show what a killed or rejected run left, and what of its rows can be read from it; remove it if told to.

    Args:
        place: ``OUTPUT.partial``, or the ``OUTPUT`` that it was to become.
        yes: remove it; the run then starts anew when it is asked for again. Files of others are never removed.

    Returns:
        The files, with their bytes and what can be read from each.

    Raises:
        UsageError: no unfinished run of ours is there, or a process is at work in it; nothing was touched.
    """
    from palimpsest.engine.left_behind import left_in  # how far a run got stands in files that torch reads

    return left_in(place, remove=yes)
