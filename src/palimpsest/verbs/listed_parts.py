"""The parts of a version: what there is beside its weights, and a new version without some, or with some scaled."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from palimpsest.engine.progress import Progress, silent
from palimpsest.errors import PlanError, reachable
from palimpsest.models.as_it_was import as_it_was
from palimpsest.models.parts.part_rows import PartRow, alphas_of, check_is_folder, numbers_of, part_rows
from palimpsest.models.sources import check_folder


@as_it_was()
def parts(
    folder: str | Path,
    *,
    remove: Collection[int | str] | int | str = (),
    alpha: Mapping[int | str, float] | None = None,
    undo: Mapping[int, int] | None = None,
    output: str | Path | None = None,
    progress: Progress = silent,
) -> tuple[PartRow, ...]:
    """List the parts of a version, or make a new version that differs in them.

    Args:
        folder: of a version; an adapter folder counts as its base with a part ``lora``.
        remove: numbers of parts that the new version lacks: 3, "0-3", "all".
        alpha: number of a part -> its factor in the new version: 1 as learned, 0 off, below 0 the other way.
        undo: number of a part -> number of a request whose change in it the new version lacks.
        output: the new version's folder; must not exist.
        progress: told which histories beside the old one were not handed on, and why.

    Returns:
        The parts, oldest first: of ``output`` where one was written, else of ``folder``.

    Raises:
        UsageError: the folder is none of a model, a number is not there, or the output cannot be written; nothing
            was written.
    """
    place = Path(reachable(folder, "model")).expanduser()
    rows = _rows_of(place)
    numbers = _numbers(remove, rows)
    alphas = alphas_of({str(which): value for which, value in (alpha or {}).items()}, rows)
    _check_stay(numbers, alphas, "have an alpha")
    undone = _undone(undo or {}, rows, numbers)
    _check_output(output, changes=bool(numbers or alphas or undone))
    if output is None:
        return rows
    from palimpsest.engine.new_version import without_and_scaled

    for note in without_and_scaled(place, Path(output), numbers, alphas, undone):
        progress(f"note: {note}", 0, 0)
    return part_rows(Path(output))


def _rows_of(place: Path) -> tuple[PartRow, ...]:
    check_is_folder(place)
    check_folder(place)
    return part_rows(place)


def _numbers(remove: Collection[int | str] | int | str, rows: Collection[PartRow]) -> set[int]:
    """Those that are to be removed."""
    given = [remove] if isinstance(remove, int | str) else remove
    return {number for one in given for number in numbers_of(str(one), rows)}


def _undone(undo: Mapping[int, int], rows: Collection[PartRow], removed: Collection[int]) -> dict[int, int]:
    """Requests to take back, by parts that are there and stay."""
    for number in undo:
        numbers_of(str(number), rows)
    _check_stay(removed, undo, "be undone")
    return dict(undo)


def _check_stay(removed: Collection[int], changed: Collection[int], how: str) -> None:
    """What is to be changed is not to be removed."""
    for number in sorted({*removed} & {*changed}):
        raise PlanError(f"part {number} is to be removed and to {how}; leave one of the two out")


def _check_output(output: str | Path | None, *, changes: bool) -> None:
    if changes != (output is not None):
        raise PlanError(
            "a changed version goes to its own folder: give --output NEW with --remove N, --alpha N=A or --undo N=R"
        )
