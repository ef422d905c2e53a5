"""``palimpsest clean``."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.saying import tell, tell_json
from palimpsest.in_words import so_many

if TYPE_CHECKING:
    from palimpsest.engine.left_behind import Left


def command(
    place: Annotated[Path, typer.Argument(metavar="DIR", help="OUTPUT.partial, or the OUTPUT it was to become.")],
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.", show_default=False)] = False,
    json: o.Json = False,
) -> int:
    """Show what a killed or rejected run left behind and what can be read from it; --yes removes it."""
    from palimpsest.verbs.clean import clean

    left = clean(place, yes=yes)
    if json:
        shown = {"files": [f._asdict() for f in left.files], "others": [f._asdict() for f in left.others]}
        tell_json(json_module.dumps({**left._asdict(), **shown}, indent=1))
    else:
        tell("\n".join(_lines(left)))
    return 0


def _lines(left: Left) -> Iterator[str]:
    yield f"{left.folder}: {left.state}; {so_many(len(left.files), 'file')}, {sum(f.size for f in left.files):,} bytes"
    for name, group in groupby(left.files, key=lambda file: file.path.partition("/")[0]):
        files = list(group)
        shown = f"{name}/ ({so_many(len(files), 'file')})" if "/" in files[0].path else name
        yield f"  {shown:<28} {sum(f.size for f in files):>13,}  {files[0].tells}"
    for file in left.others:
        yield f"  {file.path:<28} {file.size:>13,}  not made by a run: it is never removed"
    if left.removed:
        yield "Removed. The same command would start the run anew."
    else:
        yield "Nothing was removed: --yes does, and the run can then not go on from here."
