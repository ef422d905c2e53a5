"""Is a finished folder still what its run left?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.engine.output import PLAN, RESULT
from palimpsest.engine.plan_record import made_by
from palimpsest.engine.recorded import contradictions, derived
from palimpsest.errors import DataError, ModelError, reachable
from palimpsest.models.bound import MANIFEST, Differences, changes_in, check_bound
from palimpsest.models.plain import read_json_object
from palimpsest.report.page import PAGE, render
from palimpsest.report.schema import RunResult

CURE = (
    "put the files back from a copy, or run it again into another folder; who changed them on purpose deletes "
    f"{MANIFEST}, and the folder counts as one that nothing is known of"
)
NO_MANIFEST = f"no {MANIFEST} (of another program, or of version 0.1.0): whether it was changed cannot be told"


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found.

    Attributes:
        folder: that was looked at.
        bound: has it a manifest?
        changed: files with other content than when the run ended.
        missing: files that are no longer there.
        additional: files that were not there, and decide what the model answers.
        problems: what of its records, or of an adapter's base, does not fit together.
        notes: what decides nothing and a reader should know: that the page is not that of the record.
    """

    folder: str
    bound: bool
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool | None:
        """Is it as its run left it? None where nobody can tell."""
        if self.changed or self.missing or self.additional or self.problems:
            return False
        return True if self.bound else None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"holds": self.holds, **vars(self)}


def verify(folder: str | Path) -> Verification:
    """Hold a finished folder against its manifest, and its records against each other. Nothing is loaded or written.

    Args:
        folder: of a run.

    Returns:
        Every file that was changed, is missing or was added, and what of the records does not fit together.

    Raises:
        DataError: there is no such folder.
    """
    place = Path(reachable(folder, "run")).expanduser()
    if not place.is_dir():
        raise DataError(f"{folder} is no folder; give the folder of a finished run")
    found = changes_in(place)
    changed, missing, additional = found or Differences()
    differs = bool(changed or missing or additional)  # then it goes without saying that records do not fit
    problems = () if differs else (*_record_problems(place), *_base_problems(place))
    return Verification(str(folder), found is not None, changed, missing, additional, problems, _page_notes(place))


def _page_notes(folder: Path) -> tuple[str, ...]:
    """Is the page another one than is made of the record? It is what people read, and decides nothing."""
    page = folder / PAGE
    try:
        told = render(RunResult.of_run(folder)).encode()
        if not page.is_file() or page.read_bytes() == told:
            return ()
    except (DataError, OSError):
        return ()
    return (f"{PAGE} is not the page of {RESULT}: changed, or of another version; palimpsest report writes it anew",)


def _record_problems(folder: Path) -> tuple[str, ...]:
    """What of the records contradicts each other; of a run of a bench, which has others, nothing is said."""
    try:
        result = RunResult.of_run(folder)
    except DataError:
        return ()
    ours = made_by(read_json_object(folder / PLAN)) is not None  # by the rules of 0.1.0 other verdicts were reached
    return (*contradictions(folder, result), *(derived(result).notes if ours else ()))


def _base_problems(folder: Path) -> tuple[str, ...]:
    """An adapter's base that is not as its own run left it."""
    try:
        check_bound(folder)
    except ModelError as error:
        return (str(error),)
    return ()
