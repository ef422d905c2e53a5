"""Ctrl-C and SIGTERM: a checkpoint first, a line that says how to go on, and the same bits in the end."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from tests.verbs.conftest import by_heart
from tests.verbs.test_kill import DONE, MEASURING, in_a_fork, what_counts
from tests.verbs.test_kill_control import SHORT

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.engine.output import Output
from palimpsest.engine.unfinished import how_far
from palimpsest.errors import Interrupted
from palimpsest.loop.stop import SIGNALS

TRAINING = {"batch_size": 4, "side_batch_size": 4}
FIXED = {"training": {**TRAINING, "learning_rate": 1e-3, "max_steps": 12}, "measuring": MEASURING}
SEARCHED = {"training": TRAINING, "measuring": MEASURING, "control": {**SHORT, "budget": 30}}
TAUGHT = {"training": TRAINING, "measuring": MEASURING, "control": {"budget": 30, "cooling": 2}}

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]


@pytest.fixture(scope="module")
def clinic(clinic, tmp_path_factory) -> Path:
    return by_heart(clinic, tmp_path_factory.mktemp("by-heart") / "clinic", MEASURING)


class Strikes:
    """Progress that sends this process a signal when training has come so far; once."""

    def __init__(self, number: int, at: int, stage: str = "training") -> None:
        self.number, self.at, self.stage = number, at, stage

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == self.stage and done >= self.at:
            self.stage = "never again"
            os.kill(os.getpid(), self.number)


def fixed(clinic: Path, output: Path, **how: Any) -> pal.RunResult:
    files = {"retain": clinic / "retain.jsonl", "holdout": clinic / "holdout.jsonl"}
    return pal.unlearn(
        clinic / "learned", clinic / "forget.jsonl", output=output, method="npo", plan=FIXED, **files, **how
    )


def searched(clinic: Path, output: Path, **how: Any) -> pal.RunResult:
    files = {name: clinic / f"{name}.jsonl" for name in ("retain", "holdout")} | {"replay": clinic / "general.jsonl"}
    return pal.unlearn(
        clinic / "learned", clinic / "forget.jsonl", output=output, method="npo", plan=SEARCHED, **files, **how
    )


def taught(clinic: Path, output: Path, **how: Any) -> pal.RunResult:
    return pal.learn(clinic / "model", clinic / "learn.jsonl", output=output, plan=TAUGHT, **how)


@pytest.fixture(scope="module")
def whole(clinic, tmp_path_factory) -> Callable[[Callable[[Path, Path], object]], dict[str, Any]]:
    """A verb -> what counts of its run that nothing interrupted; run once, in a fork."""

    @cache
    def run(verb: Callable[[Path, Path], object]) -> dict[str, Any]:
        output = tmp_path_factory.mktemp("whole") / "out"
        assert in_a_fork(lambda: verb(clinic, output)) == DONE
        return what_counts(output)

    return run


def step_of(checkpoint: Path) -> str:
    with safe_open(checkpoint, framework="pt") as file:
        return file.metadata()["state"]


@pytest.mark.parametrize("number", SIGNALS)
def test_no_step_is_lost_though_checkpoints_are_fifty_steps_apart(clinic, tmp_path, whole, number):
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(KeyboardInterrupt) as stopped:
        fixed(clinic, tmp_path / "cut", progress=Strikes(number, 5))
    partial = tmp_path / "cut.partial"
    where = f"the unfinished run lies in {partial} (palimpsest clean {partial} shows what it holds)"
    assert str(stopped.value) == f"after 5 steps; {where}"
    assert '"step": 5' in step_of(tmp_path / "cut.partial" / "checkpoint.safetensors")
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    steps = []
    fixed(clinic, tmp_path / "cut", progress=lambda stage, done, *_: stage == "training" and steps.append(done))
    assert steps == list(range(6, 13)), "it goes on where it was"
    assert what_counts(tmp_path / "cut") == whole(fixed)


def test_a_second_ctrl_c_stops_at_once_at_the_checkpoint_before(clinic, tmp_path, whole):
    def strike(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "training" and done == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"^before the first step; what was measured before is kept; the unfinished"):
        fixed(clinic, tmp_path / "cut", progress=strike)
    assert not (tmp_path / "cut.partial" / "checkpoint.safetensors").exists()
    fixed(clinic, tmp_path / "cut")
    assert what_counts(tmp_path / "cut") == whole(fixed)


@pytest.mark.slow
@pytest.mark.parametrize("verb", [searched, taught], ids=["unlearn", "learn"])
@pytest.mark.parametrize("at", [0, 4, 12], ids=["sweep", "round", "late"])
def test_a_run_that_finds_its_rate_finishes_its_stage_and_ends_with_the_same_bits(clinic, tmp_path, whole, verb, at):
    with pytest.raises(KeyboardInterrupt) as stopped:
        verb(clinic, tmp_path / "cut", progress=Strikes(signal.SIGINT, at))
    assert "the unfinished run lies in" in str(stopped.value)
    assert (tmp_path / "cut.partial" / "control" / "state.json").is_file(), "the stage is written down"
    assert in_a_fork(lambda: verb(clinic, tmp_path / "cut")) == DONE
    assert what_counts(tmp_path / "cut") == whole(verb)


@pytest.mark.parametrize("stage", ["measuring before: forget", "measuring after: forget", "reference"])
def test_beside_training_it_stops_at_once_and_says_what_is_kept(clinic, tmp_path, stage):
    kept = {
        "measuring before: forget": "before anything was measured",
        "measuring after: forget": "after all of training (12 steps)",
        "reference": "before the first step; what was measured before is kept",
    }
    with pytest.raises(Interrupted) as stopped:
        fixed(clinic, tmp_path / "out", progress=Strikes(signal.SIGINT, 0, stage))
    where = f"; the unfinished run lies in {tmp_path / 'out.partial'} (palimpsest clean "
    assert str(stopped.value).startswith(f"{kept[stage]}{where}")


def test_how_far_of_a_folder_that_is_not_there(tmp_path):
    assert how_far(tmp_path / "x.partial").startswith("before anything was measured; ")


def command_of(clinic: Path, output: Path) -> list[str]:
    sets = [word for name in ("forget", "retain", "holdout") for word in (f"--{name}", str(clinic / f"{name}.jsonl"))]
    plan = ["--lr", "1e-3", "--max-steps", "12", "--set", 'measuring.metrics=["prob"]', "--set", "npo.beta=0.2"]
    return ["unlearn", "--model", str(clinic / "learned"), *sets, "--method", "npo", *plan, "--output", str(output)]


def commanded(clinic: Path, output: Path) -> None:
    assert main(command_of(clinic, output)) in {0, 1, 3}


def test_the_command_line_says_how_to_go_on_and_a_shell_can_read_it(clinic, tmp_path, capsys, monkeypatch):
    from palimpsest.cli import screen

    output = tmp_path / "my model"
    monkeypatch.setattr(screen, "_Lines", lambda: Strikes(signal.SIGTERM, 2))
    assert main(command_of(clinic, output)) == 130
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    line = capsys.readouterr().err.splitlines()[-1]
    words, _, again = line.rpartition("; the same command goes on from there: palimpsest ")
    look = f"(palimpsest clean '{output}.partial' shows what it holds)"
    assert words == f"palimpsest: interrupted after 2 steps; the unfinished run lies in {output}.partial {look}"
    monkeypatch.undo()
    assert main(shlex.split(again)) in {0, 1, 3}
    assert (output / "result.json").is_file()


def test_before_anything_was_written_the_line_says_so(clinic, tmp_path, capsys, monkeypatch):
    def struck(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    monkeypatch.setattr("palimpsest.engine.stages.load", struck)
    assert main(command_of(clinic, tmp_path / "out")) == 130
    said = capsys.readouterr().err
    assert "palimpsest: interrupted before anything was written (what an earlier run left is as it was); " in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_real_command_stops_and_goes_on_as_typed(clinic, tmp_path, whole, number):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    start = [sys.executable, "-m", "palimpsest"]
    process = subprocess.Popen([*start, *command_of(clinic, tmp_path / "cut")], **quiet)
    wait_for((tmp_path / "cut.partial" / "remembered" / "before.json").exists, process)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    again = said.splitlines()[-1].rpartition(" goes on from there: ")[2]
    assert again == shlex.join([*start, *command_of(clinic, tmp_path / "cut")])
    assert main(shlex.split(again)[len(start) :]) in {0, 1, 3}
    assert what_counts(tmp_path / "cut") == whole(commanded)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def test_stopped_when_there_is_just_the_folder_the_line_names_it(clinic, tmp_path, monkeypatch):
    begin = Output.begin

    def struck(self, plan):
        begin(self, plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(Output, "begin", struck)
    with pytest.raises(Interrupted, match="before anything was measured; the unfinished run lies in"):
        fixed(clinic, tmp_path / "out")
