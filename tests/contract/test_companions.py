"""Battery: every registered kind of history is planted, asked, purged and looked at byte by byte.

A kind is found by its file; the test of that file (``tests/companions/test_<file>.py``) gives ``plant``, so none can be
added without one.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path

import pytest

from palimpsest import companions
from palimpsest.companions.companion import Companion
from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.errors import PlanError

GONE, STAYS = "Ada Lovelace, born 10 December 1815", "p2 ünusual/id"
KINDS = companions.names()


@pytest.fixture
def key() -> MarkKey:
    found = own_key()
    assert found is not None
    return found


def planted(kind: str, version: Path, key: MarkKey) -> Companion:
    """A history of two rows, and of nobody in particular."""
    place = companions.companion_place(kind, version)
    version.mkdir(exist_ok=True)
    tests = import_module(f"tests.companions.test_{companions._files()[kind].module}")
    tests.plant(place, key, [GONE])
    return companions.load(kind).open(place, key)


def traces(folder: Path, example_id: str, key: MarkKey) -> list[str]:
    """Files below a folder that name an id, in clear, by its digest or by its mark."""
    plain = hashlib.sha256(example_id.encode()).hexdigest()[:32]
    words = [example_id.encode(), plain.encode(), key.of_id(example_id).encode()]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(w in path.read_bytes() or w in path.name.encode() for w in words)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_was_purged_is_gone(kind, tmp_path, key):
    companion = planted(kind, tmp_path / "v", key)
    assert companion.holds([GONE, STAYS]) == {GONE}
    before = companion.digest()
    found = companion.forget([GONE, STAYS])
    assert found.ids == {GONE}
    assert found.records >= 1
    assert companion.holds([GONE, STAYS]) == frozenset()
    again = companions.load(kind).open(companion.folder, key)
    assert again.holds([GONE, STAYS]) == frozenset()
    assert again.digest() != before
    assert again.forget([GONE]).ids == frozenset()


@pytest.mark.parametrize("kind", KINDS)
def test_no_byte_of_it_is_left(kind, tmp_path, key):
    companion = planted(kind, tmp_path / "v", key)
    assert not [name for name in traces(tmp_path, GONE, key) if GONE in name]
    assert not any(GONE.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    companion.forget([GONE])
    if companion.brings_back:  # else a mark stays on purpose, to tell the row when it comes back
        assert traces(tmp_path, GONE, key) == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_for_its_owner_alone_if_it_brings_rows_back(kind, tmp_path, key):
    companion = planted(kind, tmp_path / "v", key)
    companion.forget([GONE])
    files = [companion.folder] if companion.folder.is_file() else [*companion.folder.rglob("*")]
    written = [path for path in files if path.is_file() and path.name != "head.safetensors"]
    if companion.brings_back and companion.handed_on:
        assert {path.stat().st_mode & 0o077 for path in written} == {0}


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_keeps_is_counted(kind, tmp_path, key):
    companion = planted(kind, tmp_path / "v", key)
    examples, records, size = companion.held()
    assert examples >= 1
    assert records >= 1
    assert size > 0
    companion.forget([GONE])
    assert companions.load(kind).open(companion.folder, key).held().examples < examples


@pytest.mark.parametrize("kind", KINDS)
def test_a_purge_that_fails_leaves_the_old_one_or_the_new_one(kind, tmp_path, key, monkeypatch):
    """The disk fails at each rename in turn: what is there can be opened, and a second purge ends it."""
    from palimpsest import durable

    real = durable.os.replace
    for fatal in range(4):
        companion = planted(kind, tmp_path / str(fatal), key)
        renames = iter(range(10))

        def replace(source, target, fatal=fatal, renames=renames):
            if next(renames) == fatal:
                raise OSError(5, "Input/output error")
            real(source, target)

        monkeypatch.setattr(durable.os, "replace", replace)
        try:
            companion.forget([GONE])
        except OSError:
            pass
        finally:
            monkeypatch.setattr(durable.os, "replace", real)
        again = companions.load(kind).open(companion.folder, key)
        again.digest()
        again.forget([GONE])
        assert companions.load(kind).open(companion.folder, key).holds([GONE]) == frozenset()


def test_kinds_are_found_by_their_files(tmp_path):
    assert {"deltas", "learned"} <= set(KINDS)
    assert all(companions.load(kind).kind == kind for kind in KINDS)
    assert companions.kinds_in(tmp_path) == ()
    with pytest.raises(PlanError, match="unknown companion 'delta'; did you mean 'deltas'"):
        companions.load("delta")


def test_the_registry_imports_no_torch():
    import subprocess
    import sys

    code = "import sys; from palimpsest import companions; companions.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
