"""``palimpsest parts``."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.saying import tell, tell_beside, tell_json
from palimpsest.errors import PlanError
from palimpsest.in_words import so_many

if TYPE_CHECKING:
    from palimpsest.models.parts.part_rows import PartRow

Remove = Annotated[list[str] | None, typer.Option("--remove", metavar="N", help="Without part N, e.g. 0, 0-3, all.")]
Alpha = Annotated[
    list[str] | None, typer.Option("--alpha", metavar="N=A", help="With part N times A: 1 as learned, 0 off.")
]
Undo = Annotated[
    list[str] | None, typer.Option("--undo", metavar="N=R", help="Without what request R did in part N, e.g. 0=1.")
]
NewFolder = Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the new version.")]


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a version.")],
    remove: Remove = None,
    alpha: Alpha = None,
    undo: Undo = None,
    output: NewFolder = None,
    json: o.Json = False,
) -> int:
    """List the modules beside a version's weights; make a version without some, or with some scaled."""
    from palimpsest.verbs.listed_parts import parts

    alphas, undone = _alphas(alpha or ()), _requests(undo or ())
    rows = parts(folder, remove=remove or (), alpha=alphas, undo=undone, output=output, progress=_news)
    if json:
        tell_json(json_module.dumps([row.to_json() for row in rows], indent=1))
    else:
        tell("\n".join(_lines(output or folder, rows)))
    return 0


def _news(stage: str, done: int, total: int, note: str = "") -> None:
    tell_beside(stage)


def _alphas(given: Sequence[str]) -> dict[int | str, float]:
    """``N=A`` -> its two sides."""
    found: dict[int | str, float] = {}
    for one in given:
        number, equals, value = one.partition("=")
        try:
            found[number] = float(value)
        except ValueError:
            raise PlanError(f"--alpha {one!r}; accepted: N=A, the number of a part and a factor, e.g. 0=0.5") from None
        if not equals:
            raise PlanError(f"--alpha {one!r}; accepted: N=A, e.g. 0=0.5")
    return found


def _requests(given: Sequence[str]) -> dict[int, int]:
    """``N=R`` -> its two sides."""
    found: dict[int, int] = {}
    for one in given:
        number, _, request = one.partition("=")
        if not (number.isdecimal() and request.isdecimal()):
            raise PlanError(f"--undo {one[:40]!r}; accepted: N=R, the numbers of a part and of a request, e.g. 0=1")
        found[int(number)] = int(request)
    return found


def _lines(folder: Path, rows: Sequence[PartRow]) -> list[str]:
    if not rows:
        return [f"{folder}: plain weights, no parts"]
    lines = [f"{folder}: {len(rows)} beside the weights, oldest first"]
    for row in rows:
        by = f"by {row.method}, run {row.run[:8]}" if row.method else ""
        numbers = f"{row.tensors} tensors, {row.numbers:,} numbers"
        lines.append(f"  {row.number:>3}  {row.kind}  at {row.place}  {numbers}  alpha {row.alpha:g}  {by}".rstrip())
        lines += [f"       request {number} deleted {so_many(count, 'code')}" for number, count in row.requests.items()]
    return lines
