"""``palimpsest demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.screen import show_result, shown_progress


def command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all the demo writes.")] = Path(
        "demo-output"
    ),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seeds patients and training.")] = 0,
    json: o.Json = False,
) -> int:
    """Learn two groups of invented patients, forget three of them, and show the evidence. No network; minutes."""
    from palimpsest.demo.story import run_demo

    with shown_progress(quiet=json) as progress:
        result, folder = run_demo(output, seed=seed, progress=progress)
    return show_result(result, str(folder), as_json=json)
