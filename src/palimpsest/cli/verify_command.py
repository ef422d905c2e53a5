"""``palimpsest verify``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.saying import tell, tell_json

if TYPE_CHECKING:
    from palimpsest.verbs.verify import Verification

EXITS = {True: 0, False: 1, None: 3}


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a finished run.")],
    json: o.Json = False,
) -> int:
    """Name every file of a finished run that is not as the run left it."""
    from palimpsest.verbs.verify import verify

    found = verify(folder)
    if json:
        tell_json(json_module.dumps(found.to_json(), indent=1))
    else:
        tell("\n".join(_lines(found)))
    return EXITS[found.holds]


def _lines(found: Verification) -> list[str]:
    from palimpsest.verbs.verify import CURE, NO_MANIFEST

    kinds = ("changed", "missing", "additional", "problems")
    rows = [f"{kind.removesuffix('s'):11} {what}" for kind in kinds for what in getattr(found, kind)]
    if not found.bound:
        rows.insert(0, f"{found.folder} has {NO_MANIFEST}")
    notes = [f"note: {note}" for note in found.notes]
    if found.holds:
        return [f"{found.folder} is as its run left it", *notes]
    rows += notes
    return [*rows, f"\n{CURE}"] if found.holds is False else rows
