"""No traceback reaches a user: what nobody foresaw is one line, exit code 70 and a log file."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys

import pytest
from tests.test_house import ROOT
from tests.verbs.test_kill import in_a_fork

from palimpsest.__main__ import start
from palimpsest.bench.perform.parallel import WaitingTask, run_tasks
from palimpsest.cli import main
from palimpsest.cli.endings import UNFORESEEN, failed, trouble_of_machine
from palimpsest.companions.learned import read_record
from palimpsest.engine.sections import Encoding, as_taught
from palimpsest.errors import PalimpsestError, RunError
from palimpsest.models.load import load
from palimpsest.models.sources import check_source, class_names_in, classes_of, is_image_model, source_digest
from palimpsest.untrusted import refusing


class Panic(BaseException):
    """As libraries that are written in Rust raise."""


@pytest.fixture
def breaks(monkeypatch, tmp_path):
    """``palimpsest report x`` raises this."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def set_up(error: BaseException) -> None:
        def load(*_, **__):
            raise error

        monkeypatch.setattr("palimpsest.report.schema.RunResult.load", load)

    return set_up


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError(), RecursionError("deep"), Panic("\x1b[2J" * 1000)])
def test_what_nobody_foresaw_is_one_line_with_a_log(refused, breaks, tmp_path, error):
    breaks(error)
    line = refused("report", "somewhere", code=UNFORESEEN)
    assert f"this should not have happened ({type(error).__name__}" in line
    assert "in report/schema.py, line " in line
    (log,) = tmp_path.glob("palimpsest-*.log")
    assert str(log) in line
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    text = log.read_text()
    assert text.startswith("palimpsest ")
    assert "Traceback (most recent call last)" in text
    assert "somewhere" not in text, "arguments may name people"


def test_debug_shows_where(breaks, capsys, tmp_path):
    breaks(KeyError("\x1b[2J"))
    assert main(["report", "somewhere", "--debug"]) == UNFORESEEN
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert "\x1b" not in err
    assert not list(tmp_path.glob("*.log"))


def test_debug_shows_where_of_a_refusal_too(refused, tmp_path, capsys):
    assert main(["report", str(tmp_path), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_is_not_named(refused, breaks, monkeypatch, tmp_path):
    breaks(KeyError("x"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert "with what --debug shows" in refused("report", "somewhere", code=UNFORESEEN)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(28, "No space left on device", "a/b"),
            "a/b: No space left on device; make room and give the same command again, a run goes on where it stood",
        ),
        (PermissionError(13, "Permission denied", b"a\xff"), "Permission denied"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "No space left"),
        (MemoryError(), "memory of this machine was not enough"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: you tried"), "was not enough"),
    ],
)
def test_the_machine_is_no_error_of_ours(refused, breaks, error, words):
    breaks(error)
    assert words in refused("report", "somewhere", code=1)


def test_an_error_without_a_number_is_not_the_machine():
    assert trouble_of_machine(OSError("odd")) is None


def test_a_closed_pipe_says_nothing(capsys):
    assert failed(BrokenPipeError(32, "Broken pipe")) == 141
    assert capsys.readouterr().err == ""


def test_only_errors_of_others_are_translated():
    with pytest.raises(RunError, match="KeyError: 'x'"), refusing(RunError):
        raise KeyError("x")
    with pytest.raises(RunError, match="Panic: rust"), refusing(RunError):
        raise Panic("rust")
    for error in (PalimpsestError("own"), KeyboardInterrupt()):
        with pytest.raises(type(error)), refusing(RunError):
            raise error


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_a_worker_that_is_killed_is_one_error():
    with pytest.raises(RunError, match="ended from outside.*with fewer --jobs goes on"):
        run_tasks({"a": WaitingTask(die)}, jobs=2, threads=None, done=lambda *_: None)


DEEP = "[" * 100_000 + "]" * 100_000
BAD_YAML = ["2001-99-99", "!!int x", "1" * 5000, "!!float x", "!!python/name:os.system ''", "{[a]: 1}", "&a [*a]", DEEP,
            "!!binary x", "? {a: 1}\n: b", "!!timestamp x", "!!set {a", "\x00", "*nobody", "!!map [1]"]  # fmt: skip


@pytest.mark.parametrize("value", BAD_YAML)
@pytest.mark.parametrize("way", ["--set", "plan", "bench", "json"])
def test_a_value_that_is_none(refused, clinic, tmp_path, value, way):
    sets = [x for name in ("forget", "retain") for x in (f"--{name}", clinic / f"{name}.jsonl")]
    file = tmp_path / ("plan.json" if way == "json" else "plan.yaml")
    file.write_text(f"training:\n  seed: {value}\n" if way == "plan" else f"seeds: {value}\n")
    if way == "bench":
        refused("bench", "clu", "-o", tmp_path / "o", "--model", clinic / "model", "--config", file)
        return
    asked = ("--set", f"training.seed={value}") if way == "--set" else ("--plan", file)
    refused("unlearn", "--model", clinic / "model", *sets, "-o", tmp_path / "out", *asked)
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    "text", [DEEP, "1" * 5000, '{"a": ' * 3000, "[1e999]", "{}", "null", "\ud800", '{"schema_id": 1}']
)
@pytest.mark.parametrize("file", ["config.json", "learned.json", "plan.json", "tokenizer.json", "tokenizer_config.json",
                                  "generation_config.json"])  # fmt: skip
def test_json_of_any_kind_beside_a_model(folder_with, file, text):
    folder = folder_with()
    (folder / file).write_bytes(text.encode(errors="surrogatepass"))
    for door in (is_image_model, classes_of, class_names_in, check_source, read_record, source_digest, load):
        with contextlib.suppress(PalimpsestError):
            door(folder)
    as_taught(Encoding(), folder)


@pytest.mark.parametrize(
    "text", [DEEP, "1" * 5000, "{}", '{"schema_id": "palimpsest.run/1"}', "[]", '{"schema_id": []}']
)
def test_json_in_the_place_of_a_result(refused, tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    for verb in ("report", "judge"):
        refused(verb, tmp_path)


LONG = "x" * 300


@pytest.mark.parametrize("name", [LONG, f"a/{LONG}", "~nosuchuser/x", "a\udcff", "a" * 5000, "/dev/null/x", ""])
def test_names_that_no_file_can_have(refused, clinic, tmp_path, name):
    model, data = clinic / "model", clinic / "forget.jsonl"
    refused("measure", "--model", name, "--data", data)
    refused("measure", "--model", model, "--data", name)
    refused("report", name or "\x00")
    refused("learn", "--model", model, "--data", data, "-o", tmp_path / "o", "--replay", name, "--max-steps", "1")
    refused("unlearn", "--model", model, "--forget", data, "--retain", clinic / "retain.jsonl", "--base", name,
            "--method", "retrain", "-o", tmp_path / "o")  # fmt: skip
    refused("learn", "--model", model, "--data", data, "-o", tmp_path / "o", "--plan", name)
    refused("bench", "clu", "--methods", "er+npo", "--model", name, "--data", data, "-o", tmp_path / "o")
    refused("bench", "clu", "--methods", "er+npo", "--model", model, "--data", name, "-o", tmp_path / "o")
    refused("bench", "clu", "--config", name, "-o", tmp_path / "o")
    if name.strip("~/x") or not name:
        refused("learn", "--model", model, "--data", data, "-o", name)
        refused("demo", "-o", name or "\x00")
    assert not (tmp_path / "o.partial").exists()


@pytest.mark.parametrize("what", ["dangling", "ring", "file", "partial dangling", "partial file"])
def test_an_output_that_cannot_be_put_in_place_is_refused_before_anything_is_done(refused, clinic, tmp_path, what):
    place = tmp_path / ("out.partial" if "partial" in what else "out")
    if "file" in what:
        place.write_text("mine")
    else:
        place.symlink_to(place if what == "ring" else tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    refused("learn", "--model", clinic / "model", "--data", clinic / "forget.jsonl", "-o", tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("options", [("--epochs", "1e308"), ("--epochs", "inf"), ("--epochs", "nan"), ("--lr", "1e308"),
                                     ("--seed", "9" * 30), ("--set", "training.seed=-1"),
                                     ("--set", "training.learning_rate=true"), ("--set", "training.batch_size=true"),
                                     ("--set", "training={1: 2}"), ("--set", "control.epochs=1e308"),
                                     ("--set", "encoding.max_length=1e30"), ("--set", "measuring.limit=1e400"),
                                     ("--threads", "9" * 30)])  # fmt: skip
def test_numbers_that_no_run_can_have(refused, clinic, tmp_path, options):
    refused("learn", "--model", clinic / "model", "--data", clinic / "learn.jsonl", "-o", tmp_path / "out", *options)
    assert not (tmp_path / "out.partial").exists()


def test_a_seed_of_the_demo(refused, tmp_path):
    refused("demo", "-o", tmp_path / "demo", "--seed", "9" * 20)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "plan",
    [
        {"options": {1: 2}},
        {"training": {1: 2}},
        {1: 2},
        {"measuring": {"options": {1: {}}}},
        {"derived": {1: {}}},
        {"gates": [{1: 2}]},
        {"gates": [1]},
        {"bounds": 5},
        {"gates": 5},
        {"encoding": []},
        {"scope": {"names": [1]}},
        {"scope": {"names": {"a": 1}}},
    ],
)
def test_keys_and_values_of_any_type(refused, clinic, tmp_path, plan):
    import yaml

    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    sets = [x for name in ("forget", "retain") for x in (f"--{name}", clinic / f"{name}.jsonl")]
    refused("unlearn", "--model", clinic / "model", *sets, "-o", tmp_path / "out", "--plan", tmp_path / "plan.yaml")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
@pytest.mark.parametrize("room", [500, 20_000, 200_000])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_disk_without_room_is_one_line_and_the_same_command_goes_on(clinic, tmp_path, room):
    """A bound on the size of files stands for a full disk: every way to write meets it."""
    learn = ["learn", "--model", str(clinic / "model"), "--data", str(clinic / "learn.jsonl"), "--lr", "1e-3",
             "--max-steps", "2", "-o", str(tmp_path / "out"), "--no-answers"]  # fmt: skip
    code, said = without_room(room, learn)
    last = said.splitlines()[-1]
    assert (code, "Traceback" in said) == (1, False), said
    assert last.startswith("palimpsest: error: ")
    assert "File too large" in last
    assert not (tmp_path / "out").exists()
    assert main(learn) == 0


def without_room(room: int, arguments: list[str]) -> tuple[int, str]:
    """Exit code and errors of ``palimpsest ARGUMENTS`` in a forked process that writes no file larger than that."""
    import resource

    reader, writer = os.pipe()

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        sys.argv = ["palimpsest", *arguments]
        with open(writer, "w") as said, contextlib.redirect_stderr(said), contextlib.redirect_stdout(None):
            code = start()
        os._exit(code)

    code = in_a_fork(limited)
    os.close(writer)
    with open(reader, encoding="utf-8") as said:
        return code, said.read()


def started(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen([sys.executable, "-X", "importtime", "-m", "palimpsest", *arguments], text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("module", ["typer", "palimpsest.cli.options", "palimpsest.cli"])
def test_an_interruption_while_the_command_line_is_imported(module):
    said = []
    with started("methods") as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if re.search(rf"\| +{re.escape(module)}$", line):
                process.send_signal(signal.SIGINT)
                break
        said += process.stderr.readlines()
    words = [line for line in said if not line.startswith("import time:")]
    assert process.wait(60) in (0, 130)
    assert not [line for line in words if "Traceback" in line or "Exception ignored" in line], words


def test_the_command_of_the_package_hears_an_interruption_from_its_first_line():
    """Nothing is imported on the way to ``start`` but the package's own light names."""
    text = (ROOT / "pyproject.toml").read_text()
    assert 'palimpsest = "palimpsest.__main__:start"' in text
    code = "import sys, palimpsest.__main__; print(sorted(m for m in sys.modules if m.startswith('palimpsest.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")})  # fmt: skip
    assert "palimpsest.cli" not in done.stdout
