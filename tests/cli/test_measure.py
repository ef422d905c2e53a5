"""``palimpsest measure --show``: on the screen and as JSON."""

from __future__ import annotations

import io
import json
import sys

import pytest

from palimpsest.cli import main


def measure(clinic, *more: str) -> int:
    given = ("--model", str(clinic / "model"), "--data", str(clinic / "forget.jsonl"), "--metrics", "ma,es")
    return main(["measure", *given, *more])


def test_answers_follow_the_scores(clinic, capsys):
    assert measure(clinic, "--show", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("'p"))
    assert "token positions" in lines[first - 2]
    assert ": ma 0." in lines[first]
    assert ", es 0." in lines[first]
    assert lines[first + 1].startswith("    asked     Where does ")
    assert " Hill Road." in lines[first + 2]
    assert lines[first + 3].startswith("    model     ")
    assert sum(line.startswith("'p") for line in lines) == 2
    assert max(map(len, lines[first:])) <= 100


def test_a_line_break_may_be_typed_as_the_two_characters_of_it(clinic, capsys):
    found = []
    for typed in (r"\n", "\n", ""):
        assert measure(clinic, "--separator", typed, "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["examples"])
    assert found[0] == found[1] != found[2]


def test_json_has_prompt_row_words_and_scores(clinic, capsys):
    assert measure(clinic, "--show", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    [answer] = found["answers"]
    assert set(answer) == {"id", "place", "subject", "prompt", "expected", "said", "scores"}
    assert isinstance(answer["said"], str)
    assert {"id": answer["id"], **answer["scores"]} in found["examples"]
    assert answer["scores"]["ma"] == max(example["ma"] for example in found["examples"])


def test_without_show_there_are_none(clinic, capsys):
    assert measure(clinic, "--json") == 0
    assert "answers" not in json.loads(capsys.readouterr().out)


def test_less_than_none_is_one_line(clinic, capsys):
    assert measure(clinic, "--show", "-1") == 2
    error = capsys.readouterr().err
    assert error.startswith("palimpsest: error: Invalid value for '--show'")
    assert error.count("\n") == 1


def test_a_terminal_that_lacks_a_character_gets_an_escape(clinic, capsys, monkeypatch: pytest.MonkeyPatch):
    """An untrained byte-level model writes bytes that no ASCII terminal can show."""
    assert measure(clinic, "--show", "4") == 0
    assert not capsys.readouterr().out.isascii()
    poor = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", poor)
    assert measure(clinic, "--show", "4") == 0
    poor.flush()
    assert b"\\u" in poor.buffer.getvalue() or b"\\x" in poor.buffer.getvalue()
