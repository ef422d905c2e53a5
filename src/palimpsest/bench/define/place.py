"""Where a bench may be written; asked before torch is imported."""

from __future__ import annotations

from pathlib import Path

from palimpsest.errors import DataError, reachable
from palimpsest.files import check_makeable_folder

FOLDERS = ("oracles", "readings", "runs")


def check_place(folder: Path) -> None:
    """A bench writes only where it made the folder, or found it empty: its page has the name of any run's.

    Raises:
        DataError: something else is there, or nothing can be.
    """
    reachable(folder, "output")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--output {folder} is a file; give a new folder, or one of an earlier bench")
    if folder.exists() and any(folder.iterdir()) and not any((folder / name).is_dir() for name in FOLDERS):
        raise DataError(f"--output {folder} holds something else than a bench; give a new folder, or one of a bench")
    check_makeable_folder(folder, "output", DataError)
