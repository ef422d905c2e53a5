"""0 passed or done, 1 failed, 2 wrong usage, 3 undecided; and what the screen says beside it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from palimpsest.cli import main
from palimpsest.cli.screen import run_summary, show_result, shown_progress
from palimpsest.records import Outcome
from palimpsest.report.schema import RunResult, VerdictRow

BARE = RunResult(kind="unlearn", method="icu", plan={}, plan_digest="", created="", sets={}, scores={})


def verdict(outcome: Outcome) -> VerdictRow:
    word = outcome.capitalize()
    return VerdictRow(outcome=outcome, sentence=f"{word}: the one gate.", plain=f"{word}: in plain words.")


@pytest.mark.parametrize(
    ("outcome", "code"), [(Outcome.PASSED, 0), (Outcome.FAILED, 1), (Outcome.UNDECIDED, 3), (Outcome.AS_SERVED, 3)]
)
def test_every_outcome_has_a_code(outcome, code, capsys):
    assert show_result(BARE.model_copy(update={"verdict": verdict(outcome)}), "out", as_json=False) == code
    assert f"\n{outcome.capitalize()}: in plain words.\n  The one gate.\n" in capsys.readouterr().out


def test_a_run_of_which_nothing_was_asked_is_done(capsys):
    assert show_result(BARE.model_copy(update={"kind": "learn"}), "out", as_json=True) == 0


def test_what_to_do_next_comes_last():
    told = BARE.model_copy(update={"verdict": verdict(Outcome.FAILED), "advice": ("Raise --lr.", "Give --holdout.")})
    assert run_summary(told).endswith("\n\nWhat to do next:\n  * Raise --lr.\n  * Give --holdout.")


def test_a_result_of_0_1_0_without_plain_words_shows_its_sentence():
    old = BARE.model_copy(update={"verdict": VerdictRow(outcome=Outcome.FAILED, sentence="Failed: 1 of 1.")})
    assert run_summary(old).endswith("Failed: 1 of 1.")


@pytest.mark.parametrize("terminal", [False, True])
def test_news_is_a_line_without_a_count(terminal, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with shown_progress(quiet=False) as progress:
        progress("already done on a day: shown again", 0, 0)
        progress("training", 1, 2, "loss 3.000")
    said = capsys.readouterr().err
    assert "already done on a day: shown again\n" in said
    assert "0/0" not in said
    assert "1/2" in said


def test_help_names_the_codes(capsys):
    assert main(["--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "Exit codes: 0 passed or done, 1 failed, 2 wrong usage, 3 undecided" in words


def test_an_undecided_run_ends_with_three_and_reporting_it_again_with_zero(clinic, tmp_path, capsys):
    sets = [x for name in ("forget", "retain") for x in (f"--{name}", str(clinic / f"{name}.jsonl"))]
    common = ["--model", str(clinic / "model"), *sets, "--method", "grad_diff", "--max-steps", "1", "--lr", "1e-5"]
    assert main(["unlearn", *common, "-o", str(tmp_path / "out")]) == 3
    out = capsys.readouterr().out
    assert "Undecided: nothing shows what a model scores that never saw the forget set (MA" in out
    assert "--holdout FILE" in out
    assert "--make-oracle" in out
    assert main(["report", str(tmp_path / "out")]) == 0
    assert "What to do next:" in capsys.readouterr().out


def test_bounds_by_gate_decide(clinic, tmp_path, capsys):
    sets = [x for name in ("forget", "retain") for x in (f"--{name}", str(clinic / f"{name}.jsonl"))]
    common = ["--model", str(clinic / "model"), *sets, "--method", "grad_diff", "--max-steps", "1", "--lr", "1e-5"]
    bound = ["--gate", "forget es <= 1", "--gate", "retain prob >= 0.9"]
    assert main(["unlearn", *common, *bound, "-o", str(tmp_path / "out"), "--no-answers"]) == 1
    assert "retain prob at least 0.9" in capsys.readouterr().out


SECOND_STRIKE = """
import atexit, os, signal, sys
from palimpsest.cli import main
from palimpsest.engine import recorded
def again():  # what a process does while it ends takes seconds once torch is there
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
atexit.register(again)
def strike(*_, **__): os.kill(os.getpid(), signal.SIGINT)
recorded.reachable = strike
sys.exit(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_second_interruption_while_the_process_ends_is_not_heard():
    done = subprocess.run(
        [sys.executable, "-c", SECOND_STRIKE, "report", "run"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr.startswith("palimpsest: interrupted before anything was written")
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("arguments", [[], ["bench"]])
def test_without_a_command_the_help_is_help(arguments, capsys):
    assert main(arguments) in (0, 2)  # as typer has it
    out, err = capsys.readouterr()
    assert "error" not in err
    assert "\nCommands:\n" in out + err


def test_help_has_a_short_name(capsys):
    assert main(["measure", "-h"]) == 0
    assert "--show" in capsys.readouterr().out
