"""What only the model can tell is refused once it is loaded, before anything is measured or written."""

from __future__ import annotations

import pytest
from tests.models.small_texts import LABELS, classifier, tokenizer

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.cli.options import parse_rule
from palimpsest.engine import execute
from palimpsest.errors import PlanError


def test_a_block_that_is_not_there(clinic, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "measure_column", lambda *_: pytest.fail("the model was measured first"))
    with pytest.raises(PlanError, match=r"rmu.layer = 4: the model has 2 blocks; accepted: 0 to 1"):
        pal.unlearn(
            clinic / "model",
            clinic / "forget.jsonl",
            retain=clinic / "retain.jsonl",
            output=tmp_path / "out",
            method="rmu",
            plan={"options": {"layer": 4}},
        )
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def unmeasured(monkeypatch):
    """No run gets as far as measuring."""
    monkeypatch.setattr(execute, "measure_column", lambda *_: pytest.fail("the model was measured first"))


@pytest.mark.parametrize("method", ["lunar", "depn", "prune_neurons"])
def test_an_adapter_under_which_the_matrices_lie(clinic, tmp_path, unmeasured, method):
    sets = {"retain": clinic / "retain.jsonl", "output": tmp_path / "out", "method": method}
    with pytest.raises(PlanError, match="edits the weights themselves, and scope lora leaves them alone; accepted: "):
        pal.unlearn(clinic / "model", clinic / "forget.jsonl", plan={"scope": {"kind": "lora"}}, **sets)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("method", ["sim_npo", "salun", "random_label", "bad_teacher"])
def test_a_class_that_stays_and_no_holdout(tmp_path, unmeasured, method):
    """The run would aim at what an unseen row of the class scores, which nothing shows; with a holdout it goes on."""
    classifier("bert").save_pretrained(tmp_path / "model")
    tokenizer(closes="<sep>").save_pretrained(tmp_path / "model")
    rows = [{"id": f"t{i}", "text": f"ann lives at hill {i}", "label": LABELS[i % 2]} for i in range(8)]
    sets = {"retain": rows[4:], "output": tmp_path / "out", "method": method}
    with pytest.raises(PlanError, match="classes of the forget set stay.*on texts of them.*give --holdout FILE"):
        pal.unlearn(tmp_path / "model", rows[:4], **sets)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_a_set_that_a_rule_looks_at_and_no_such_run_has(clinic, tmp_path):
    how = {"output": tmp_path / "out", "plan": {"rules": [{"kind": "disruption"}]}}
    with pytest.raises(PlanError, match="looks at the forget set, which no learn run has; leave"):
        pal.learn(clinic / "model", clinic / "learn.jsonl", **how)
    with pytest.raises(PlanError, match="kind no option of it"):
        parse_rule("smooth:kind=foo")


def test_a_share_of_noise_that_is_none(clinic, tmp_path):
    with pytest.raises(PlanError, match="alpha is 2; accepted: 0 .* to 1"):
        pal.harden(clinic / "model", clinic / "retain.jsonl", output=tmp_path / "out", alpha=2)


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
