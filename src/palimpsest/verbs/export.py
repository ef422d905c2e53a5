"""A version as plain weights, for readers that know nothing of palimpsest."""

from __future__ import annotations

from pathlib import Path

from palimpsest.errors import reachable
from palimpsest.models.as_it_was import as_it_was
from palimpsest.models.parts.part_rows import check_is_folder


@as_it_was()
def export(folder: str | Path, output: str | Path) -> Path:
    """Write a version as a plain folder, its parts folded into the weights.

    Args:
        folder: of a version, or of an adapter.
        output: the plain folder; must not exist.

    Returns:
        The plain folder.

    Raises:
        UsageError: a part does not fold exactly (says which), or the folder or the output cannot be used; nothing was
            written.
    """
    from palimpsest.engine.new_version import exported

    place = Path(reachable(folder, "model")).expanduser()
    check_is_folder(place)
    exported(place, Path(output))
    return Path(output)
