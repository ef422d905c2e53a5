"""``palimpsest export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli.saying import tell


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a version, or of an adapter.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The plain folder.")],
) -> int:
    """Write a version as plain weights that load without palimpsest; refuses what does not fold exactly."""
    from palimpsest.verbs.export import export

    tell(f"plain  {export(folder, output)}")
    return 0
