"""What comes from files and people reaches a terminal as visible characters, whatever it is."""

from __future__ import annotations

import io
import sys

import pytest
from tests.report.conftest import make_answered

from palimpsest.cli import main
from palimpsest.cli.saying import tell
from palimpsest.cli.screen import run_summary, shown_progress
from palimpsest.report.schema import RunResult

EVIL = "a\x1b[2J\x07\u202e"
SEEN = "a\\x1b[2J\\x07\\u202e"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        """It is."""
        return True


def renamed(result: RunResult) -> RunResult:
    """The run with an evil id and an evil note."""
    scores = {
        column: {
            name: {key: row.model_copy(update={"by_id": {f"{EVIL}\n{i}": v for i, v in row.by_id.items()}})
                   for key, row in metrics.items()}
            for name, metrics in sets.items()
        }
        for column, sets in result.scores.items()
    }  # fmt: skip
    return result.model_copy(update={"scores": scores, "advice": (EVIL,)})


def test_a_summary_holds_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    plain, evil = make_answered(), renamed(make_answered())
    tell(run_summary(evil))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert SEEN in out
    assert len(run_summary(evil).split("\n")) == len(run_summary(plain).split("\n"))


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_notes_of_progress_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]) -> None:
    """On a terminal neither codes nor what rich would take for its markup."""
    monkeypatch.setattr(sys, "stderr", stream())
    with shown_progress(quiet=False) as progress:
        progress("reading data", 2, 2, f"columns left out: {EVIL} [/red]")
        progress("note", 0, 0, f"{EVIL} [/red]")
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert SEEN in said
    assert "[/red]" in said
    assert "a\x1b[2J" not in said


def test_a_refusal_is_one_visible_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", f"{EVIL}.json"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b" not in err
