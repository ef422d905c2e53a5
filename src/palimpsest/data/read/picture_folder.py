"""A folder of sub-folders of pictures -> examples. All or nothing: no file in a class is passed over.

The first level names the classes; what lies deeper belongs to them, also behind links. Every file there must be a
picture (picture_modes.py), whatever its ending. Passed over, and nothing else: what is hidden (its name begins with a
dot), and what file managers leave (``LEFT_BY_OTHERS``). Files beside the classes are left out with a note, and refused
where they are pictures, which would have no class. A class without pictures is noted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path

from palimpsest.data.problems import Problems
from palimpsest.data.read.layout import Rows
from palimpsest.data.read.picture_modes import decode, image_of
from palimpsest.errors import DataError
from palimpsest.records import Example
from palimpsest.untrusted import refusing

PICTURES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
)
"""Endings by which a folder is taken for one of pictures; inside it, all files are read."""
LEFT_BY_OTHERS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"})
_SHOWN = 5  # names in a note


def is_image_folder(path: Path) -> bool:
    """Is it a folder of sub-folders of pictures?"""
    if not path.is_dir():
        return False
    with _readable(path):
        return any(_is_picture(file) for sub in _classes(path) for file in _files_below(sub, ()))


def read_image_folder(folder: Path) -> Rows:
    """Examples of an image folder, by class and name; ids are paths in the folder, the same on every system.

    Raises:
        DataError: the first file that is no picture, and how many more; or a picture without a class.
    """
    with _readable(folder):
        files = {sub: sorted(_files_below(sub, ())) for sub in _classes(folder)}
        beside = sorted(p for p in folder.iterdir() if not p.is_dir() and not _is_passed_over(p))
    without = next(filter(_is_picture, beside), None)
    if without is not None:
        raise DataError(f"{without}: a picture without a class; put it into a folder that is named as its class")
    examples = _examples(folder, chain.from_iterable(files.values()))
    empty = [sub for sub, its in files.items() if not its]
    left = _note(folder, "files beside the classes left out", beside)
    return Rows(examples, (*_note(folder, "folders without pictures", empty), *left))


def _examples(folder: Path, files: Iterable[Path]) -> list[Example]:
    examples: list[Example] = []
    problems = Problems()
    for file in files:
        with problems.of(str(file)):
            try:
                examples.append(_example(folder, file))
            except OSError as error:
                raise DataError(f"cannot be read ({error.strerror})") from error
    problems.refuse("files")
    return examples


def _example(folder: Path, file: Path) -> Example:
    name = file.relative_to(folder)
    if not file.is_file():
        raise DataError("no file that can be read; accepted: pictures, and links to pictures")
    spelled = name.parts[0]
    label = int(spelled) if spelled.isdecimal() and spelled == str(int(spelled)) else spelled
    return Example(name.as_posix(), image_of(decode(file.read_bytes()), label, spelled), where=str(file))


def _note(folder: Path, what: str, paths: list[Path]) -> tuple[str, ...]:
    names = [path.name for path in paths]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (f"{folder}: {what}: {', '.join(names[:_SHOWN])}{more}",) if names else ()


def _readable(folder: Path) -> AbstractContextManager[None]:
    return refusing(lambda reason: DataError(f"{folder}: its folders cannot be read ({reason})"))


def _classes(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _is_passed_over(p))


def _files_below(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """All files in a folder and below, behind links too.

    Args:
        folder: to look in.
        above: real paths of it and the folders that it was reached through.
    """
    here = os.path.realpath(folder)
    if here in above:
        raise DataError(f"{folder}: a link to a folder that it lies in; take it out")
    for path in folder.iterdir():
        if _is_passed_over(path):
            continue
        if path.is_dir():
            yield from _files_below(path, (*above, here))
        else:
            yield path


def _is_passed_over(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in LEFT_BY_OTHERS


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES
