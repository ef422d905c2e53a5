from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from palimpsest.errors import DataError
from palimpsest.records import Cost, Direction, GateResult, Outcome, Score, Verdict
from palimpsest.report.schema import SCHEMA_ID, CostRow, RunResult, ScoreRow, VerdictRow


def test_saved_and_loaded_is_equal(result: RunResult, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "result.json"
    result.save_json(path)
    assert RunResult.load(path) == result
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_bare_run_is_equal_after_a_round_trip(bare: RunResult, tmp_path: Path) -> None:
    bare.save_json(tmp_path / "r.json")
    assert RunResult.load(tmp_path / "r.json") == bare


numbers = st.none() | st.floats(allow_nan=False)


@given(value=numbers, low=numbers, high=numbers, by_id=st.dictionaries(st.text(), numbers, max_size=4))
def test_rows_of_records_round_trip(
    value: float | None, low: float | None, high: float | None, by_id: dict[str, float | None]
) -> None:
    score = Score("el_10", value, low, high, 3, 1, Direction.LOWER, "share", 2, by_id)
    row = ScoreRow.of(score)
    assert row.score("el_10") == score
    # Infinity (an overflowed perplexity) must survive JSON too.
    assert ScoreRow.model_validate_json(row.model_dump_json()) == row
    json.loads(row.model_dump_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_verdict_and_cost_round_trip() -> None:
    verdict = Verdict(Outcome.FAILED, "Failed.", (GateResult("g", Outcome.FAILED, "s"),))
    assert VerdictRow.of(verdict).verdict() == verdict
    assert CostRow.of(Cost(1.5, 20, 300)).cost() == Cost(1.5, 20, 300)


def test_columns_stand_in_the_order_before_after_oracle(result: RunResult) -> None:
    turned = result.model_dump() | {"scores": dict(reversed(result.model_dump()["scores"].items()))}
    assert list(turned["scores"]) == ["oracle", "after", "before"]
    assert list(RunResult.model_validate(turned).scores) == ["before", "after", "oracle"]


def test_a_result_cannot_be_changed(result: RunResult) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        result.method = "npo"  # type: ignore[misc]


def broken(result: RunResult, **changes: object) -> str:
    return json.dumps(json.loads(result.model_dump_json()) | changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", f"has schema_id None; accepted: '{SCHEMA_ID}'"),
        (b'{"schema_id": "palimpsest.run/2"}', "has schema_id 'palimpsest.run/2'; accepted"),
        (b'{"schema_id": "palimpsest.run/1"}', "breaks the schema 'palimpsest.run/1' at kind: Field required"),
    ],
)
def test_load_refuses_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as refusal:
        RunResult.load(path)
    assert message in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_load_names_the_broken_place(result: RunResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(broken(result, surprise=1, kind="forget"), encoding="utf-8")
    kinds = "'learn', 'unlearn', 'update', 'measure', 'calibrate', 'harden', 'federate' or 'erase'"
    message = rf"at kind: Input should be {kinds} \(2 in all\)"
    with pytest.raises(DataError, match=message):
        RunResult.load(path)


def test_load_refuses_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read '.*none\.json': No such file"):
        RunResult.load(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot read"):
        RunResult.load(tmp_path)


def test_save_refuses_a_place_that_is_no_folder(result: RunResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot write .*; accepted: a file name in a writable folder"):
        result.save_json(tmp_path / "file" / "result.json")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


def test_a_failed_save_keeps_the_old_file(result: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    path.write_text("old", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device.*result.json"):
        result.save_json(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.slow
@pytest.mark.parametrize("module", ["palimpsest.report", "palimpsest.audit.gates"])
def test_torch_is_not_reached(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ)).returncode == 0
