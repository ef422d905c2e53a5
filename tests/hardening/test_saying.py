"""Nothing but visible characters reaches a terminal, in whatever encoding, and nobody has to read it."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.test_house import ROOT, SRC, dotted, parsed, where

from palimpsest.cli import main, saying
from palimpsest.printed import LONGEST_LINE, as_line, in_json, is_visible, printable

COMMAND = SRC / "cli"
NOISY = "\x1b[2Jred\x9b31m\u202e\x07\r"
WRITERS = {"print", "input", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "os.write", "typer.echo"}


def written_elsewhere(tree: ast.Module) -> list[ast.expr]:
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute))
    return [node for node in names if dotted(node) in WRITERS or dotted(node).startswith(("typer.secho", "click."))]


def test_all_that_the_command_line_prints_goes_through_one_file() -> None:
    files = [path for path in sorted(COMMAND.glob("*.py")) if path.name != "saying.py"]
    assert len(files) > 10
    assert not [where(path, node) for path in files for node in written_elsewhere(parsed(path))]


@pytest.mark.parametrize("code", ["print(x)", "sys.stderr.write(x)", "typer.echo(x)", "os.write(1, x)", "f = print"])
def test_the_scan_sees(code: str) -> None:
    assert written_elsewhere(ast.parse(code))


@given(st.text())
def test_a_line_is_one_line_of_visible_characters_and_bounded(text: str) -> None:
    assert all(map(is_visible, as_line(text)))
    assert all(map(is_visible, printable(text)))
    assert len(as_line(text * 50, longest=100)) <= 100


@given(st.text())
def test_json_means_the_same_when_it_is_escaped(text: str) -> None:
    plain = json.dumps({"a": text}, indent=1, ensure_ascii=False)
    assert json.loads(in_json(plain)) == {"a": text}
    assert all(is_visible(c) for c in in_json(plain) if c != "\n")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "utf-16"])
def test_every_encoding_gets_what_it_can_show(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr("sys.stdout", stream)
    saying.tell(f"∇ 漢 é {NOISY}")
    saying.tell_json(json.dumps({"a": f"∇ 漢 \U0001f600 {NOISY}"}, ensure_ascii=False))
    stream.flush()
    first, rest = stream.buffer.getvalue().decode(encoding).split("\n", 1)
    assert "\x1b" not in first
    assert r"\x1b[2Jred\x9b31m\u202e" in first
    assert json.loads(rest) == {"a": f"∇ 漢 \U0001f600 {NOISY}"}


def test_what_libraries_print_is_escaped_too():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), saying.only_visible():
        print(NOISY)
        sys.stderr.writelines([NOISY])
    assert "\x1b" not in out.getvalue() + err.getvalue()
    assert r"\x1b[2J" in out.getvalue()
    assert r"\x1b[2J" in err.getvalue()


@pytest.mark.parametrize("arguments", [("report", NOISY), (NOISY,), ("measure", "--model", NOISY, "--data", "x"),
                                       ("learn", "--model", "m", "--data", NOISY, "-o", NOISY),
                                       ("methods", NOISY), ("options", NOISY), (f"--{NOISY}",)])  # fmt: skip
def test_no_argument_moves_the_cursor(refused, arguments):
    refused(*arguments)


def test_no_field_of_a_result_moves_the_cursor(tmp_path, capsys):
    from palimpsest.records import Outcome
    from palimpsest.report.schema import RunResult, VerdictRow

    verdict = VerdictRow(outcome=Outcome.FAILED, sentence=NOISY, plain=NOISY)
    result = RunResult(kind="unlearn", method=NOISY, plan={}, plan_digest=NOISY, created="", sets={}, scores={})
    result.model_copy(update={"verdict": verdict, "stopped": NOISY, "advice": (NOISY,)}).save_json(
        tmp_path / "result.json"
    )
    for more in ((), ("--json",)):
        assert main(["report", str(tmp_path), *more]) == 0
        out, err = capsys.readouterr()
        assert all(is_visible(c) for c in out + err if c != "\n")


def test_a_line_of_a_million_columns_is_cut(refused, clinic, tmp_path):
    (tmp_path / "wide.jsonl").write_text(json.dumps({f"column{i}": 1 for i in range(100_000)}) + "\n")
    line = refused("measure", "--model", clinic / "model", "--data", tmp_path / "wide.jsonl")
    assert len(line) <= LONGEST_LINE
    assert "wide.jsonl, line 1" in line


def command(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "palimpsest", *arguments], text=True, check=False, env=environment, **options
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_no_room_for_the_answer_is_one_line():
    with open("/dev/full", "w") as full:
        done = command("methods", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert (
        done.stderr
        == "palimpsest: error: No space left on device; make room and give the same command again, a run goes on where it stood; --debug shows where\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_nobody_reads_the_answer():
    reader, writer = os.pipe()
    os.close(reader)
    done = command("methods", "--json", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_console_that_lacks_a_character():
    done = command("methods", "ug_clu", capture_output=True, encoding="cp1252", env={"PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 0, done.stderr
    assert r"\u03c1" in done.stdout
