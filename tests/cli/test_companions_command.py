"""``palimpsest companions``: what it lists, whom it names, what it purges, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.companions.test_delta_log import STEPS, write_log
from tests.verbs.conftest import write_rows

from palimpsest import companions
from palimpsest.cli import main
from palimpsest.companions.delta_log import DeltaLog
from palimpsest.companions.marks import own_key


@pytest.fixture
def version(tmp_path) -> Path:
    """A folder with a delta log of four steps, and a file of rows."""
    key = own_key()
    assert key is not None
    write_log(companions.companion_place("deltas", tmp_path / "v"), STEPS, key)
    write_rows(tmp_path / "rows.jsonl", [{"id": i, "text": f"of {i}"} for i in ("b", "z")])
    return tmp_path / "v"


def log_in(version: Path) -> DeltaLog:
    key = own_key()
    assert key is not None
    return DeltaLog.open(companions.companion_place("deltas", version), key)


def test_it_lists_and_asks(version, capsys):
    assert main(["companions", str(version), "--holds", str(version.parent / "rows.jsonl")]) == 0
    shown = capsys.readouterr().out
    assert "  deltas           5 examples, 4 records" in shown
    assert "    holds 1 of 2 rows: b\n" in shown


def test_a_purge_needs_a_yes(version, capsys):
    rows = str(version.parent / "rows.jsonl")
    assert main(["companions", str(version), "--forget", rows]) == 0
    assert "Nothing was purged: --yes does it." in capsys.readouterr().out
    assert log_in(version).holds(["b"])
    assert main(["companions", str(version), "--forget", rows, "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "2 other rows shared these steps" in shown
    assert "Purged: 2 records deleted. The model is as it was." in shown
    assert not log_in(version).holds(["b"])


def test_as_json(version, capsys):
    assert main(["companions", str(version), "--json", "--holds", str(version.parent / "rows.jsonl")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["kind"], row["holds"], row["records"]) for row in found["rows"]] == [("deltas", ["b"], 4)]


def test_a_gap_is_said_and_can_still_be_purged(version, capsys):
    """As amnesiac says it, which refuses such a log."""
    record = next(path for path in sorted((version / "companion/deltas").iterdir()) if path.suffix == ".safetensors")
    record.write_bytes(record.read_bytes()[:-1] + b"!")
    assert main(["companions", str(version)]) == 0
    assert f"    has a gap: {record.name} is damaged; no method can work with it" in capsys.readouterr().out
    record.unlink()
    assert main(["companions", str(version), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["damage"] == f"{record.name} is missing"
    assert main(["companions", str(version), "--forget", str(version.parent / "rows.jsonl"), "--yes"]) == 0


def test_nothing_beside_it(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert main(["companions", str(tmp_path)]) == 0
    assert "nothing is kept beside it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        (["{v}", "--holds", "{rows}", "--forget", "{rows}"], "--holds and --forget were both given"),
        (["{v}", "--holds", "no.jsonl"], "no.jsonl"),
        (["{v}", "--yes"], "--yes purges the rows of --forget DATA, and none were given; nothing was purged"),
        (["{v}/companion"], "holds no model and no run"),
    ],
)
def test_what_cannot_be_is_one_line(version, capsys, arguments, said):
    given = [a.format(v=version, rows=version.parent / "rows.jsonl") for a in arguments]
    assert main(["companions", *given]) == 2
    assert said in (error := capsys.readouterr().err)
    assert error.count("\n") == 1
