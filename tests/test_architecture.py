"""docs/architecture.md and its picture are about the house as it stands."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "palimpsest"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"(?<![\w/])((?:[a-z_]+/)+[a-z_]+\.py)", PAGE)))


def rooms():
    spec = importlib.util.spec_from_file_location("rooms_of_docs", ROOT / "docs" / "rooms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_the_page_names_is_there(path):
    assert (ROOT / path).is_file() or (PACKAGE / path).is_file()


def test_the_picture_has_every_room_and_no_import_upwards():
    drawn = rooms()
    found = drawn.rooms()
    names = [room.name for room in found]
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert set(names) == there - {"__init__", "__main__"}
    assert all(names.index(above) < names.index(below) for above, below in drawn.imports(found))


def test_the_picture_was_drawn_since_the_last_room():
    picture = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    assert all(f">{room.name}</text>" in picture for room in rooms().rooms()), "run: make drawing"
