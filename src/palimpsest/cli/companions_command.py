"""``palimpsest companions``."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.saying import tell, tell_json
from palimpsest.in_words import so_many

if TYPE_CHECKING:
    from palimpsest.verbs.histories import Histories, HistoryRow

_MOST_NAMED = 4
Asked = Annotated[str | None, typer.Option("--holds", metavar="DATA", help="Which of these rows are still in there?")]
Doomed = Annotated[str | None, typer.Option("--forget", metavar="DATA", help="Purge these rows; --yes does it.")]


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")],
    holds: Asked = None,
    forget: Doomed = None,
    yes: Annotated[bool, typer.Option("--yes", help="Purge.", show_default=False)] = False,
    json: o.Json = False,
) -> int:
    """List what is kept beside a model to delete from it later, whom it holds, and purge rows from it."""
    from palimpsest.verbs.histories import histories

    found = histories(folder, holds=holds, forget=forget, yes=yes)
    if json:
        tell_json(json_module.dumps(found.to_json(), indent=1))
    else:
        tell("\n".join(_lines(found, purges=forget is not None)))
    return 0


def _lines(found: Histories, *, purges: bool) -> Iterator[str]:
    if not found.rows:
        yield f"{found.folder}: nothing is kept beside it"
        return
    yield f"{found.folder}:"
    for row in found.rows:
        counted = f"{so_many(row.examples, row.keyed_by)}, {so_many(row.records, 'record')}"
        tells = "can be brought back from it" if row.brings_back else "tells who was there; brings nothing back"
        yield f"  {row.kind:<16} {counted:<28} {row.size:>13,} bytes  {tells}"
        if row.holds is not None:
            yield f"    {_held(row, found.asked)}"
        if row.damage:
            yield f"    has a gap: {row.damage}; no method can work with it as it is"
        if row.note:
            yield f"    {row.note}"
    if found.purged:
        yield f"Purged: {so_many(sum(row.removed for row in found.rows), 'record')} deleted. The model is as it was."
    elif purges:
        yield "Nothing was purged: --yes does it."


def _held(row: HistoryRow, asked: int) -> str:
    """Of the rows asked about, those that are there."""
    holds = row.holds or ()
    named = ", ".join(holds[:_MOST_NAMED]) + (" …" if len(holds) > _MOST_NAMED else "")
    return f"holds {len(holds)} of {so_many(asked, 'row')}" + (f": {named}" if holds else "")
