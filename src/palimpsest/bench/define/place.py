"""Where a bench may be written; asked before torch is imported."""

from __future__ import annotations

import re
from pathlib import Path

from palimpsest.errors import DataError, reachable
from palimpsest.files import check_makeable_folder, check_replaceable

RESULTS, SUMMARY, REPORT = "results.json", "summary.json", "report.html"
FOLDERS = ("oracles", "readings", "runs")
MARKS = {
    RESULTS: ('"palimpsest.bench/',),
    SUMMARY: ('"warnings"', '"noise"'),
    REPORT: ("<!DOCTYPE html>", "Made by Palimpsest from <code>results.json</code>"),
}
"""What every file of a bench has in it, so that no other is written over."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_place(folder: Path) -> None:
    """A bench writes only where it made the folder, or found it empty: its page has the name of any run's.

    Raises:
        DataError: something else is there, or nothing can be.
    """
    reachable(folder, "output")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--output {folder} is a file; give a new folder, or one of an earlier bench")
    if folder.exists() and any(folder.iterdir()) and not any(_is_of_a_bench(folder / name) for name in FOLDERS):
        raise DataError(f"--output {folder} holds something else than a bench; give a new folder, or one of a bench")
    for name, marks in MARKS.items():
        check_replaceable(folder / name, marks, "file of a bench")
    check_makeable_folder(folder, "output", DataError)


def _is_of_a_bench(folder: Path) -> bool:
    """Is this the folder of one kind of work: new, or with something that is named by its digest?"""
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = [path.name for path in folder.iterdir()]
    return not names or any(_DIGEST.match(name) for name in names)
