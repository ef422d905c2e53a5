"""What only the model can tell is refused once it is loaded, before anything is measured or written."""

from __future__ import annotations

import pytest

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.engine import execute
from palimpsest.errors import PlanError


def test_a_block_that_is_not_there(clinic, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "measure_column", lambda *_: pytest.fail("the model was measured first"))
    with pytest.raises(PlanError, match=r"rmu.layer = 4: the model has 4 blocks; accepted: 0 to 3"):
        pal.unlearn(
            clinic / "model",
            clinic / "forget.jsonl",
            retain=clinic / "retain.jsonl",
            output=tmp_path / "out",
            method="rmu",
            plan={"options": {"layer": 4}},
        )
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", ["parts", "companions", "export"])
def test_a_folder_that_is_no_model(command, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    more = ["--output", str(tmp_path / "out")] if command == "export" else []
    assert main([command, str(tmp_path / "empty"), *more]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_record_says_what_it_is(clinic, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty")]) == 2
    assert "holds no result.json; give the folder of a finished run" in capsys.readouterr().err
    pal.export(clinic / "model", tmp_path / "plain")
    assert main(["report", str(tmp_path / "plain")]) == 2
    assert f"palimpsest measure --model {tmp_path / 'plain'} --data FILE tells how it does" in capsys.readouterr().err
    (tmp_path / "empty/plan.json").write_text("{}")
    assert main(["report", str(tmp_path / "empty")]) == 2
    assert "is a run that has not ended" in (said := capsys.readouterr().err)
    assert said.count("\n") == 1
