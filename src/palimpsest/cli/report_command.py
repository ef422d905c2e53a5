"""``palimpsest report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.saying import tell, tell_beside, tell_json
from palimpsest.cli.screen import run_summary
from palimpsest.files import check_replaceable


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or its result.json.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the page goes.  [<run>/report.html]")
    ] = None,
    no_answers: Annotated[
        bool, typer.Option("--no-answers", help="Take what the models said out of result.json and the page.")
    ] = False,
    json: o.Json = False,
) -> int:
    """Write a run's page again, and print its table."""
    from palimpsest.engine.recorded import answers_out, recorded
    from palimpsest.report.page import MARK, PAGE, save_html

    result, notes = recorded(run)
    source = run / "result.json" if run.is_dir() else run
    page = output or source.with_name(PAGE)
    for place in {page, source.with_name(PAGE)} if no_answers else {page}:
        check_replaceable(place, ("<!DOCTYPE html>", MARK), "page of a run")
    if no_answers:
        result = answers_out(source, result)
    save_html(result, page)
    for note in notes:
        tell_beside(f"note: {note}")
    if json:
        tell_json(result.model_dump_json(indent=1))
    else:
        tell(f"{run_summary(result)}\n\nreport  {page}")
    return 0
