"""Names of files and people as they come: not UTF-8, too long, out of reach. One line, nothing written."""

from __future__ import annotations

import os
import sys

import pytest

from palimpsest.cli import main
from palimpsest.engine.output import Output
from palimpsest.errors import PlanError, reachable

LONG = "x" * 300
LATIN = "M\udcfcller"  # what Python makes of a name in Latin-1

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have other rules for names")

COMMANDS = {
    "data": ("measure", "--model", "lm", "--data", "{}.jsonl"),
    "model": ("measure", "--model", "{}", "--data", "forget.jsonl"),
    "pool": ("unlearn", "--model", "lm", "--data", "{}.jsonl", "--forget-subject", "Ann", "-o", "out"),
    "forget": ("unlearn", "--model", "lm", "--forget", "{}.jsonl", "--retain", "retain.jsonl", "-o", "out"),
    "model to change": ("unlearn", "--model", "{}", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "-o", "o"),
    "oracle": ("unlearn", "--model", "lm", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "-o", "o",
               "--oracle", "{}"),
    "output": ("unlearn", "--model", "lm", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "-o", "{}"),
    "run": ("report", "{}"),
    "method": ("methods", "{}"),
    "bench": ("bench", "clu", "-o", "{}", "--model", "lm", "--data", "forget.jsonl", "--methods", "er+npo"),
}  # fmt: skip


@pytest.fixture
def here(clinic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lm").symlink_to(clinic / "model")
    for name in ("forget.jsonl", "retain.jsonl"):
        (tmp_path / name).symlink_to(clinic / name)
    return tmp_path


@pytest.mark.parametrize("name", [LONG, LATIN, "a\0b"], ids=["long", "latin", "null"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_no_file_can_have_is_one_line(here, capsys, command, name):
    before = sorted(here.rglob("*"))
    assert main([part.replace("{}", name) for part in COMMANDS[command]]) == 2
    err = capsys.readouterr().err
    assert err.startswith("palimpsest: error: ")
    assert err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_a_person_whose_name_is_no_utf8_is_refused_before_anything_is_written(here, capsys):
    given = ("unlearn", "--model", "lm", "--forget", "forget.jsonl", "--retain", "retain.jsonl", "-o", "out")
    assert main([*given, "--asked-by", LATIN]) == 2
    assert "asked_by" in capsys.readouterr().err
    assert not list(here.glob("out*"))


def test_what_may_not_be_looked_at_is_refused(tmp_path, monkeypatch):
    def stat(self, **_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.stat", stat)
    with pytest.raises(PlanError, match=r"output '.*': cannot be opened \(Permission denied\); give a path"):
        Output(tmp_path / "out")


def test_a_ring_of_links_is_refused(tmp_path):
    os.symlink("ring", tmp_path / "ring")
    with pytest.raises(PlanError, match="cannot be opened"):
        reachable(tmp_path / "ring", "data", PlanError)


def test_what_the_system_refuses_later_is_one_line_too(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "out.partial/checkpoint")

    monkeypatch.setattr("palimpsest.report.schema.RunResult.load", full)
    assert main(["report", "somewhere"]) == 1
    assert capsys.readouterr().err == (
        "palimpsest: error: out.partial/checkpoint: No space left on device; make room and give the same command again, "
        "a run goes on where it stood; --debug shows where\n"
    )
