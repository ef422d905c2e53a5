"""Files of others are never deleted or overwritten, and a run writes only into the folder whose lock it has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.test_house import ROOT

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.durable import check_held_still, held, is_held, put
from palimpsest.engine.output import ONLY_FOR_THE_RUN, Output
from palimpsest.engine.whose import FOLDERS_OF_A_RUN, foreign_in, is_ours, is_temporary, remove_ours
from palimpsest.errors import DataError, LostFolder, PlanError
from palimpsest.files import check_replaceable, write_atomic

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither such locks nor such links")
FAST = {"training": {"learning_rate": 1e-3, "max_steps": 1, "batch_size": 4}, "measuring": {"metrics": ["prob"]}}
MINE = "years of work"
FOREIGN = ("thesis.txt", "notes.tmp", ".tmp", ".tmpdir.txt", ".tmp_backup", ".tmp.1234", "a.json",
           "weights.safetensors", ".notes.txt.12.tmp", "train.tmp", "old/model.safetensors", "control.txt",
           ".tmpABCDEF")  # fmt: skip


def learn(clinic: Path, output: Path, **changed: Any) -> pal.RunResult:
    plan = {**FAST, "training": {**FAST["training"], **changed}}
    return pal.learn(clinic / "model", clinic / "learn.jsonl", output=output, plan=plan, answers=False)


def put_mine(folder: Path) -> dict[Path, str]:
    """Files of somebody else in a folder."""
    for name in FOREIGN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{MINE}: {name}")
    return everything(folder)


def everything(folder: Path) -> dict[Path, str]:
    return {path: path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def unfinished(clinic, tmp_path) -> Callable[..., Output]:
    """A run that was stopped after it had measured, in ``out.partial``; or, with a reason, was rejected."""

    def make(rejected: str | None = None) -> Output:
        def stop(stage: str, done: int, total: int, note: str = "") -> None:
            if stage.startswith("training"):
                raise ConnectionError

        with pytest.raises(ConnectionError):
            pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "out", plan=FAST, answers=False,
                      progress=stop)  # fmt: skip
        target = Output(tmp_path / "out")
        assert (target.partial / "remembered" / "before.json").is_file()
        if rejected is not None:
            target.reject(rejected)
        return target

    return make


# Whose is it?


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_called_as_ours_are_is_not_ours(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(MINE)
    assert not is_temporary(file)
    assert not is_ours(tmp_path / Path(name).parts[0])
    remove_ours(tmp_path / Path(name).parts[0])
    assert file.read_text() == MINE


@pytest.mark.parametrize(
    "name",
    ["checkpoint.tmp", "metrics.tmp", ".plan.json.12.tmp", "remembered/.before.json.7.tmp", "control/x/head.tmp"],
)
def test_what_a_dead_run_left_is_ours(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("half a f")
    remove_ours(tmp_path / Path(name).parts[0])
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_of_safetensors_is_known_by_its_beginning(tmp_path):
    for number, start in enumerate([b"", b"\0" * 99, (2).to_bytes(8, "little") + b"{}"]):
        (tmp_path / f".tmpabcde{number}").write_bytes(start)
        assert is_temporary(tmp_path / f".tmpabcde{number}")
    (tmp_path / ".tmpabcde9").write_bytes(b"#!/bin/sh\n")
    assert not is_temporary(tmp_path / ".tmpabcde9")


@posix
def test_links_are_nobodys_but_whose_they_lead_to(tmp_path):
    mine = put_mine(tmp_path / "mine")
    partial = tmp_path / "out.partial"
    (partial / "control").mkdir(parents=True)
    for link in ("reference", "control/reference-1"):
        (partial / link).symlink_to(tmp_path / "mine")
    for link in ("metrics.jsonl", "checkpoint.tmp", "control/state.json"):
        (partial / link).symlink_to(next(iter(mine)))
    for path in list(partial.iterdir()):
        remove_ours(path)
    assert sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*")) == [
        "checkpoint.tmp", "control", "control/reference-1", "control/state.json", "metrics.jsonl", "reference",
    ]  # fmt: skip
    assert everything(tmp_path / "mine") == mine


def test_a_folder_of_a_run_that_holds_more_stays(tmp_path):
    (tmp_path / "reference" / "deep").mkdir(parents=True)
    for name in ("head.safetensors", "deep/head.safetensors", "deep/thesis.txt"):
        (tmp_path / "reference" / name).write_text(MINE)
    remove_ours(tmp_path / "reference")
    assert list(everything(tmp_path)) == [tmp_path / "reference" / "deep" / "thesis.txt"]


def test_every_file_of_a_run_is_known_as_ours(clinic, tmp_path, unfinished):
    target = unfinished()
    assert foreign_in(target.partial) == []
    learn(clinic, tmp_path / "out")
    assert foreign_in(tmp_path / "out") == []
    assert {name for name in ONLY_FOR_THE_RUN if "." not in name} <= FOLDERS_OF_A_RUN


# A partial folder that is somebody's own


@pytest.mark.parametrize("trap", [{}, {"rejected.txt": "no"}, {"plan.json": '{"goal": "graduate"}'},
                                  {"rejected.txt": "", "plan.json": "[]"}, {"result.json": "{}"}])  # fmt: skip
def test_a_folder_of_somebody_else_is_left_alone(refused, clinic, tmp_path, trap):
    mine = put_mine(tmp_path / "out.partial")
    for name, text in trap.items():
        (tmp_path / "out.partial" / name).write_text(text)
    mine = everything(tmp_path / "out.partial")
    line = refused("learn", "--model", clinic / "model", "--data", clinic / "learn.jsonl", "-o", tmp_path / "out")
    assert "out.partial is no run of palimpsest; move it" in line
    assert everything(tmp_path / "out.partial") == mine


def test_a_folder_with_temporary_files_of_others_is_not_empty(clinic, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "draft.tmp").write_text(MINE)
    with pytest.raises(PlanError, match="is no run of palimpsest"):
        learn(clinic, tmp_path / "out")
    assert list(everything(tmp_path).values()) == [MINE]


def test_a_run_goes_on_beside_files_of_others_and_takes_them_along(clinic, tmp_path, unfinished):
    put_mine(unfinished().partial)
    learn(clinic, tmp_path / "out")
    for name in FOREIGN:
        assert (tmp_path / "out" / name).read_text() == f"{MINE}: {name}"
    assert not [name for name in ONLY_FOR_THE_RUN if (tmp_path / "out" / name).exists()]


def test_a_rejected_run_is_cleared_away_but_for_files_of_others(clinic, tmp_path, unfinished):
    target = unfinished(rejected="diverged")
    put_mine(target.partial)
    with pytest.raises(PlanError, match=r"was rejected, and holds what is not of palimpsest \(.*\.tmp, .*\); move it"):
        learn(clinic, tmp_path / "out")
    assert set(everything(target.partial)) == {target.partial / name for name in FOREIGN}


def test_a_rejected_run_alone_is_cleared_away(clinic, tmp_path, unfinished):
    unfinished(rejected="diverged")
    learn(clinic, tmp_path / "out")
    assert not (tmp_path / "out" / "rejected.txt").exists()


@posix
@pytest.mark.parametrize("name", ["metrics.jsonl", "remembered", "checkpoint.safetensors", "model.safetensors"])
def test_nothing_is_written_through_a_link(clinic, tmp_path, unfinished, name):
    target = unfinished()
    mine = put_mine(tmp_path / "mine")
    if (target.partial / name).is_dir():
        shutil.rmtree(target.partial / name)
    (target.partial / name).unlink(missing_ok=True)
    (target.partial / name).symlink_to(tmp_path / "mine" / ("" if name == "remembered" else "thesis.txt"))
    with pytest.raises(PlanError, match=f"{name} is a link, and no run makes one"):
        learn(clinic, tmp_path / "out")
    assert everything(tmp_path / "mine") == mine


@posix
def test_a_partial_folder_that_is_a_link_is_refused(clinic, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "out.partial").symlink_to(tmp_path / "mine")
    with pytest.raises(PlanError, match="is a link"):
        learn(clinic, tmp_path / "out")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("kind", ["empty folder", "folder", "file", "link"])
def test_an_output_that_somebody_made_meanwhile_is_not_replaced(clinic, tmp_path, kind):
    def make(stage: str, done: int, total: int, note: str = "") -> None:
        if not os.path.lexists(tmp_path / "out") and stage.startswith("training"):
            {
                "empty folder": (tmp_path / "out").mkdir,
                "folder": lambda: put_mine(tmp_path / "out"),
                "file": lambda: (tmp_path / "out").write_text(MINE),
                "link": lambda: (tmp_path / "out").symlink_to(tmp_path / "nowhere"),
            }[kind]()

    given = {"output": tmp_path / "out", "plan": FAST, "answers": False}
    with pytest.raises(PlanError, match=r"made by somebody else meanwhile; the finished run is in .*out\.partial"):
        pal.learn(clinic / "model", clinic / "learn.jsonl", progress=make, **given)
    assert kind != "folder" or len(everything(tmp_path / "out")) == len(FOREIGN)
    os.rename(tmp_path / "out", tmp_path / "theirs")
    stamp = (tmp_path / "out.partial" / "model.safetensors").stat().st_mtime_ns
    learn(clinic, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == stamp


# Places that other commands write to


@pytest.fixture
def demo_folder(tmp_path) -> Path:
    return tmp_path / "project"


@pytest.mark.parametrize("name", ["data/forget.jsonl", "data/general.jsonl", "data/train.csv", "readme.txt",
                                  "untrained/x"])  # fmt: skip
def test_the_demo_writes_into_no_folder_of_others(refused, demo_folder, name):
    (demo_folder / name).parent.mkdir(parents=True)
    (demo_folder / name).write_text(MINE)
    refused("demo", "-o", demo_folder)
    assert everything(demo_folder) == {demo_folder / name: MINE}


def test_the_demo_of_another_seed_or_a_changed_one_is_left_alone(refused, demo_folder):
    from palimpsest.demo.patients import write

    write(demo_folder / "data", seed=0)
    before = everything(demo_folder)
    refused("demo", "-o", demo_folder, "--seed", "1")
    assert everything(demo_folder) == before
    write(demo_folder / "data", seed=0)
    (demo_folder / "data" / "retain.jsonl").write_text(MINE)
    (demo_folder / "data" / "forget.jsonl").unlink()
    with pytest.raises(DataError, match=r"retain\.jsonl is there, and is none of this demo"):
        write(demo_folder / "data", seed=0)
    assert not (demo_folder / "data" / "forget.jsonl").exists(), "all are looked at before one is written"


PAGES = ["<!DOCTYPE html><p>About palimpsest, a manuscript</p>", "{}", ""]


@pytest.mark.parametrize("text", PAGES)
@pytest.mark.parametrize("there", ["mine.html", "report.html"])
def test_a_page_goes_over_no_file_of_others(refused, clinic, tmp_path, text, there):
    from tests.report.conftest import make_answered

    make_answered().save_json(tmp_path / "result.json")
    (tmp_path / there).write_text(text)
    before = everything(tmp_path)
    where = ("-o", tmp_path / there) if there == "mine.html" else ()
    for options in ((), ("--no-answers",)):
        assert "is no page of a run" in refused("report", tmp_path, *where, *options)
        assert everything(tmp_path) == before, "nothing else was written either"


@posix
@pytest.mark.parametrize("kind", ["fifo", "link", "link to nothing", "folder"])
def test_a_page_goes_over_nothing_but_a_page(refused, tmp_path, kind):
    from tests.report.conftest import make_answered

    from palimpsest.report.page import save_html

    make_answered().save_json(tmp_path / "result.json")
    save_html(make_answered(), tmp_path / "page.html")
    place = tmp_path / "place"
    {
        "fifo": lambda: os.mkfifo(place),
        "link": lambda: place.symlink_to(tmp_path / "page.html"),
        "link to nothing": lambda: place.symlink_to(tmp_path / "nowhere"),
        "folder": place.mkdir,
    }[kind]()
    before = os.lstat(place)
    assert "place is there, and is no page of a run" in refused("report", tmp_path, "-o", place)
    assert os.path.samestat(os.lstat(place), before)


def test_a_page_goes_over_a_page(tmp_path, capsys):
    from tests.report.conftest import make_answered

    make_answered().save_json(tmp_path / "result.json")
    for _ in range(2):
        assert main(["report", str(tmp_path)]) == 0
        assert main(["report", str(tmp_path), "-o", str(tmp_path / "page.html")]) == 0


def test_pages_of_every_version_are_known_as_such(tmp_path):
    from palimpsest.report.page import MARK

    for page in (ROOT / "tests" / "frozen").rglob("report.html"):
        check_replaceable(page, ("<!DOCTYPE html>", MARK), "page of a run")


@pytest.mark.parametrize(
    "files", [["runs/exp1/log.txt"], ["runs/exp1.txt", "report.html"], ["results.json"], ["summary.json"]]
)
def test_a_bench_begins_in_no_folder_of_others(refused, clinic, tmp_path, files):
    for name in files:
        (tmp_path / "o" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "o" / name).write_text(MINE)
    before = everything(tmp_path / "o")
    bench = ("bench", "clu", "--model", clinic / "model", "--data", clinic / "learn.jsonl", "--methods", "er+npo")
    refused(*bench, "--set", "stream.tasks=4", "-o", tmp_path / "o")
    (tmp_path / "o" / "oracles").mkdir()  # as if a bench had begun there
    if "runs/exp1/log.txt" not in files:
        refused(*bench, "--set", "stream.tasks=4", "-o", tmp_path / "o")
    assert everything(tmp_path / "o") == before


# The lock


@contextmanager
def another_has(folder: Path, then: str = "time.sleep(99)") -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock of a folder."""
    code = f"import fcntl, os, sys, time; f = os.open(sys.argv[1], 0); fcntl.flock(f, 2); print(1, flush=True); {then}"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        try:
            yield other
        finally:
            other.kill()


@posix
def test_a_folder_that_was_replaced_is_not_written_to(tmp_path):
    folder = tmp_path / "out.partial"
    folder.mkdir()
    with held(folder) as free:
        assert free
        assert is_held(folder)
        write_atomic(folder / "a", "1")
        folder.rename(tmp_path / "away")
        for _ in range(2):  # gone, and made anew by another one
            for write in (lambda: write_atomic(folder / "a", "2"), lambda: check_held_still(folder / "deep" / "b")):
                with pytest.raises(LostFolder, match="was removed or replaced while this run wrote to it"):
                    write()
            assert not folder.exists() or not list(folder.iterdir())
            folder.mkdir(exist_ok=True)
        write_atomic(tmp_path / "out.partial2", "a neighbour is nobody's")
        folder.rmdir()
        (tmp_path / "away").rename(folder)
        write_atomic(folder / "a", "3")
    assert not is_held(folder)
    check_held_still(folder / "a")
    assert (folder / "a").read_text() == "3"


@posix
def test_the_name_of_a_folder_that_another_took_is_not_locked(tmp_path):
    """Between opening and locking, the one that was opened may be renamed: its lock guards nothing."""
    folder = tmp_path / "out.partial"
    folder.mkdir()
    with held(folder) as free, held(folder) as second:
        assert (free, second) == (True, False)
    with held(folder):
        put(folder, tmp_path / "out")
        folder.mkdir()
        with held(folder) as free:
            assert free, "it is another folder now"


@posix
def test_a_run_whose_folder_is_taken_away_ends_and_leaves_the_new_one_alone(clinic, tmp_path):
    partial = tmp_path / "out.partial"

    def replace(stage: str, done: int, total: int, note: str = "") -> None:
        if stage.startswith("training") and not (tmp_path / "away").exists():
            partial.rename(tmp_path / "away")
            partial.mkdir()
            (partial / "plan.json").write_text(MINE)

    given = {"output": tmp_path / "out", "plan": {**FAST, "training": {**FAST["training"], "max_steps": 3}}}
    with pytest.raises(LostFolder):
        pal.learn(clinic / "model", clinic / "learn.jsonl", progress=replace, **given)
    assert everything(partial) == {partial / "plan.json": MINE}
    assert not (tmp_path / "out").exists()


@posix
@pytest.mark.parametrize("rejected", [None, "diverged"])
def test_a_folder_that_another_process_has_is_neither_cleared_nor_put_in_place(clinic, tmp_path, unfinished, rejected):
    target = unfinished(rejected=rejected)
    before = everything(target.partial)
    with another_has(target.partial), pytest.raises(PlanError, match="is being written by another process"):
        learn(clinic, tmp_path / "out")
    assert everything(target.partial) == before
    learn(clinic, tmp_path / "out")


@posix
def test_who_comes_while_another_puts_its_run_in_place_waits_for_it(clinic, tmp_path):
    """The other one holds the whole run, stops before the rename, and goes on a second later."""
    learn(clinic, tmp_path / "out")
    os.rename(tmp_path / "out", tmp_path / "out.partial")
    with another_has(tmp_path / "out.partial", "time.sleep(1.5); os.rename(sys.argv[1], sys.argv[1][:-8])") as other:
        said = []
        pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "out", plan=FAST, answers=False,
                  progress=lambda stage, *_: said.append(stage))  # fmt: skip
        assert other.wait(30) == 0
    assert any("already done" in stage for stage in said)
    assert not (tmp_path / "out.partial").exists()


@posix
def test_a_process_that_only_seems_to_end_is_not_waited_for_for_ever(clinic, tmp_path, monkeypatch):
    monkeypatch.setattr("palimpsest.engine.output.FOR_AN_ENDING", 0.2)
    learn(clinic, tmp_path / "out")
    os.rename(tmp_path / "out", tmp_path / "out.partial")
    began = time.monotonic()
    with another_has(tmp_path / "out.partial"), pytest.raises(PlanError, match="being written by another process"):
        learn(clinic, tmp_path / "out")
    assert time.monotonic() - began < 20


def test_what_a_refused_run_made_is_gone_again(clinic, tmp_path):
    with pytest.raises(pal.UsageError):
        pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "new" / "deep" / "out",
                  plan={"training": {"max_steps": 1}, "encoding": {"max_length": 3}})  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.slow
def test_two_commands_at_once_on_one_output_are_one_run(clinic, tmp_path):
    """Both are started together; one may be told that the other is at it. Then the output is that of a quiet run."""
    command = [sys.executable, "-m", "palimpsest", "learn", "--model", str(clinic / "model"), "--data",
               str(clinic / "learn.jsonl"), "--lr", "1e-3", "--max-steps", "4",
               "-o", str(tmp_path / "out")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    quiet: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **quiet) for _ in range(2)]
    said = [process.communicate(timeout=200)[1].splitlines()[-1] for process in both]
    ends = {process.returncode: line for process, line in zip(both, said, strict=True)}
    assert 0 in ends
    assert len(ends) == 1 or "is being written by another process" in ends[2]
    assert not (tmp_path / "out.partial").exists()
    assert json.loads((tmp_path / "out" / "result.json").read_text())["schema_id"] == "palimpsest.run/1"
