"""``palimpsest judge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.saying import tell, tell_json
from palimpsest.cli.screen import EXIT_CODES, run_summary

Bounds = Annotated[
    list[str] | None, typer.Option("--gate", metavar="BOUND", help="E.g. 'retain es >= 0.8 * before'; may be repeated.")
]


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or its result.json.")],
    gate: Bounds = None,
    json: o.Json = False,
) -> int:
    """Reach a run's verdict anew from its recorded scores; nothing is measured or written."""
    from palimpsest.verbs.judge import judge

    result = judge(run, bounds=gate or ())
    if json:
        tell_json(result.model_dump_json(indent=1))
    else:
        tell(run_summary(result))
    return 0 if result.verdict is None else EXIT_CODES[result.verdict.outcome]
