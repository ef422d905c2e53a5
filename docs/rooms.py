"""Draws ``docs/rooms.svg``: the rooms of the package, top to bottom, and who imports whom. ``make drawing`` runs it.

The order is that of the import contract in ``pyproject.toml``; what a room is, the first line of its docstring says;
the dots are counted in the code, imports for type checkers alone left out. So the picture cannot drift from the house.
"""

from __future__ import annotations

import ast
import math
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from palimpsest.source import imported_names

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "palimpsest"
PICTURE = ROOT / "docs" / "rooms.svg"
ROW, NAME, WORDS, CELL, TOP = 24, 116, 560, 22, 110  # pixels


class Room(NamedTuple):
    """One entry of the layers.

    Attributes:
        name: folder or file directly below the package.
        files: of it.
        lines: in them.
        words: first line of its docstring.
    """

    name: str
    files: tuple[Path, ...]
    lines: int
    words: str


def rooms() -> list[Room]:
    """The rooms in the order of the layers, the uppermost first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    names = [name.strip() for layer in layers if "__main__" not in layer for name in layer.split("|")]
    return [_room(name) for name in names]


def _room(name: str) -> Room:
    place = PACKAGE / name
    files = tuple(sorted(place.rglob("*.py"))) if place.is_dir() else (PACKAGE / f"{name}.py",)
    texts = [file.read_text(encoding="utf-8") for file in files]
    about = ast.get_docstring(ast.parse(texts[0])) or ""
    return Room(name, files, sum(text.count("\n") for text in texts), about.split("\n")[0])


def imports(found: list[Room]) -> Counter[tuple[str, str]]:
    """(room, room below) -> how many files of the one import the other."""
    names = {room.name for room in found}
    counted: Counter[tuple[str, str]] = Counter()
    for room in found:
        for file in room.files:
            below = {name.split(".")[1] for name in imported_names(file) if name.startswith("palimpsest.")}
            counted.update((room.name, other) for other in below & names - {room.name})
    return counted


def drawing() -> str:
    """The whole picture."""
    found = rooms()
    counted = imports(found)
    left = NAME + WORDS + 20
    width, height = left + CELL * len(found) + 20, TOP + ROW * len(found) + 30
    parts = [*_heads(found, left), *(part for k, room in enumerate(found) for part in _row(k, room, found, counted))]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img" aria-label="Rooms of the package and their imports">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _heads(found: list[Room], left: float) -> Iterator[str]:
    for k, room in enumerate(found):
        x = left + CELL * (k + 0.5)
        yield f'<text transform="translate({x + 4:.0f} {TOP - 8}) rotate(-60)" fill="#333">{room.name}</text>'
    yield _text(8, TOP - 30, "Each room may import those below it, never one above.", "#555")
    yield _text(8, TOP - 12, "Dots: files of the row's room that import the column's.", "#555")


def _row(k: int, room: Room, found: list[Room], counted: Counter[tuple[str, str]]) -> Iterator[str]:
    y, left = TOP + ROW * k, NAME + WORDS + 20
    width = left + CELL * len(found)
    if k % 2 == 0:
        yield f'<rect x="0" y="{y}" width="{width}" height="{ROW}" fill="#f3f1ec"/>'
    yield _text(8, y + 16, room.name, "#111", bold=True)
    yield _text(NAME, y + 16, f"{_short(room.words)}  ({len(room.files)} files, {room.lines} lines)", "#444")
    yield f'<rect x="{left + CELL * k + 7}" y="{y + 8}" width="8" height="8" fill="#c9c2b4"/>'
    for j, other in enumerate(found):
        if number := counted[room.name, other.name]:
            x, r = left + CELL * (j + 0.5), min(9.0, 1.5 + 1.2 * math.sqrt(number))
            said = f"{room.name} imports {other.name}: {number} files"
            place = f'cx="{x:.0f}" cy="{y + ROW / 2:.0f}" r="{r:.1f}"'
            yield f'<circle {place} fill="#2f5d8a"><title>{said}</title></circle>'


def _short(words: str, most: int = 74) -> str:
    return words if len(words) <= most else words[: words.rfind(" ", 0, most)] + " …"


def _text(x: float, y: float, words: str, fill: str, *, bold: bool = False) -> str:
    safe = words.replace("&", "&amp;").replace("<", "&lt;").replace("``", "")
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{fill}"{weight}>{safe}</text>'


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
