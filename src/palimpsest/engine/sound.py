"""Before a dead run goes on: what lies in its folder is what it wrote, or is made again, with a word."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palimpsest.companions.delta_recording import RECORDING
from palimpsest.control.guided_state import ControlState
from palimpsest.control.hands import CONTROL
from palimpsest.control.snapshots import SUFFIX
from palimpsest.engine.output import CHECKPOINT, FEDERATED, ONLY_FOR_THE_RUN, SAVED_BESIDE, TRAINED
from palimpsest.engine.progress import Progress
from palimpsest.errors import UsageError
from palimpsest.models.load import source_digest
from palimpsest.models.sealed import is_sound
from palimpsest.models.sealed_json import read_sealed

STATE = "state.json"
_AFTER = Path("remembered") / "after.json"
_MADE_AGAIN = ONLY_FOR_THE_RUN - SAVED_BESIDE - {CHECKPOINT, TRAINED, CONTROL, RECORDING, FEDERATED}


def drop_damaged(partial: Path, progress: Progress) -> None:
    """Take out of an unfinished run what is not as the run wrote it.

    What was measured, asked or drawn before is measured, asked or drawn again. Of damaged checkpoints there is no
    earlier one: training begins again. So does it where the weights beside the mark of its end are others.

    Args:
        partial: folder of the run; held.
        progress: told what is damaged, and what comes of it.
    """
    for file in _damaged(partial):
        _tell(progress, file.relative_to(partial), "is damaged; it is made again")
        file.unlink()
    trained = partial / TRAINED
    if trained.exists():
        if _is_as_saved(partial):
            return
        _tell(progress, Path(TRAINED), "does not fit the model that lies there; it is trained again")
        trained.unlink()
        (partial / _AFTER).unlink(missing_ok=True)  # taken of who knows which weights
    if (checkpoint := partial / CHECKPOINT).exists() and not is_sound(checkpoint):
        _tell(progress, Path(CHECKPOINT), "is damaged; training starts again")
        checkpoint.unlink()
    if (problem := _unfit(partial / CONTROL)) is not None:
        _tell(progress, Path(CONTROL) / problem, "is damaged or missing; training starts again")
        shutil.rmtree(partial / CONTROL)
    _drop_torn_recording(partial, progress)


def _tell(progress: Progress, name: Path, what: str) -> None:
    progress(f"note: {name.as_posix()} of the unfinished run {what}", 0, 0)


def _damaged(partial: Path) -> Iterator[Path]:
    """Files that can be made again and are not what was written; of controlled runs references and own words, too."""
    control = partial / CONTROL
    places = (*(partial / name for name in sorted(_MADE_AGAIN)), *sorted(control.glob("reference-*")))
    files = [path for place in places for path in sorted(place.rglob("*"))]
    own_words = [path for path in sorted(control.glob("*.json")) if path.name != STATE]
    yield from (path for path in (*files, *own_words) if path.is_file() and not _is_whole(path))


def _drop_torn_recording(partial: Path, progress: Progress) -> None:
    """Steps that were recorded and cannot be read are taken again, from the first on."""
    torn = next((path for path in sorted((partial / RECORDING).rglob("*.*")) if not _is_whole(path)), None)
    if torn is not None:
        _tell(progress, torn.relative_to(partial), "is damaged; training starts again")
        (partial / CHECKPOINT).unlink(missing_ok=True)
        for name in (RECORDING, CONTROL):
            shutil.rmtree(partial / name, ignore_errors=True)


def _is_whole(file: Path) -> bool:
    """Is a file what was written into it, as far as it has a digest?"""
    if file.suffix == SUFFIX:
        return is_sound(file)
    return file.suffix != ".json" or _value_in(file) is not None


def _value_in(file: Path) -> Any:
    """The value of a sealed file; None where there is none or it is damaged."""
    try:
        return read_sealed(file)
    except (OSError, ValueError):
        return None


def _is_as_saved(partial: Path) -> bool:
    """Is the model that lies there the one that was saved when training ended?"""
    mark = _value_in(partial / TRAINED)
    try:
        return isinstance(mark, dict) and mark.get("model_digest") == source_digest(partial)
    except UsageError:
        return False


def _unfit(control: Path) -> str | None:
    """What of a controlled run's folder keeps it from going on; None where nothing does."""
    if not (control / STATE).exists():
        return None
    value = _value_in(control / STATE)
    if value is None:
        return STATE
    names = (f"{number:06d}{SUFFIX}" for number in sorted(ControlState.from_json(value).snapshots))
    return next((name for name in names if not is_sound(control / name)), None)
