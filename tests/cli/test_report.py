"""``palimpsest report``: the page again, and without what the models said."""

from __future__ import annotations

from tests.report.conftest import make_answered

from palimpsest.cli import main
from palimpsest.report.schema import RunResult


def test_answers_are_taken_out_of_record_and_page(tmp_path, capsys):
    answered = make_answered()
    answered.save_json(tmp_path / "result.json")
    secret = answered.answers[0].expected.strip()
    assert main(["report", str(tmp_path)]) == 0
    assert secret in (tmp_path / "report.html").read_text()
    assert secret in capsys.readouterr().out
    assert main(["report", str(tmp_path), "--no-answers"]) == 0
    assert secret not in capsys.readouterr().out
    for name in ("result.json", "report.html"):
        assert secret not in (tmp_path / name).read_text(), name
    kept = RunResult.load(tmp_path / "result.json")
    assert kept == answered.model_copy(update={"answers": ()})


def test_a_page_that_goes_elsewhere_leaves_no_answers_on_the_old_one(tmp_path, capsys):
    answered = make_answered()
    answered.save_json(tmp_path / "result.json")
    secret = answered.answers[0].expected.strip()
    assert main(["report", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path), "--no-answers", "-o", str(tmp_path / "other.html")]) == 0
    for name in ("result.json", "report.html", "other.html"):
        assert secret not in (tmp_path / name).read_text(), name
