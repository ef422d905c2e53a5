"""Runs that die between any two file operations, in the middle of a file, or by a real SIGKILL end with the same bits.

A death is a forked process that calls ``os._exit``: no handler, no ``finally`` runs, as after ``kill -9``.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.companions import delta_record
from palimpsest.errors import PlanError
from palimpsest.loop import checkpoint
from palimpsest.loop.log import RunLog
from palimpsest.models import reference, sealed

DIED, DONE = 99, 0
WRITING = os.O_WRONLY | os.O_RDWR
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
TRAINING = {"learning_rate": 1e-3, "max_steps": 3, "batch_size": 4, "side_batch_size": 4, "checkpoint_steps": 1}
MEASURING = {"metrics": ["prob"]}
STRICT = {"ma": 0.0, "el": 0.0}  # nothing passes, so the run goes to its budget

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def learn(clinic: Path, output: Path) -> None:
    plan = {"training": {**TRAINING, "max_steps": 2}, "measuring": MEASURING}
    given = {"replay": clinic / "general.jsonl", "plan": plan, "answers": False}  # answers change no file of a run
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=output, **given)


def unlearn(clinic: Path, output: Path, **how: Any) -> pal.RunResult:
    plan = {"training": TRAINING, "measuring": MEASURING, "refine": {**STRICT, "floor": 1e-6}}
    given = {"holdout": clinic / "holdout.jsonl", "general": clinic / "general.jsonl", "plan": plan, **how}
    given |= {"answers": False}
    return pal.unlearn(
        clinic / "learned", clinic / "forget.jsonl", retain=clinic / "retain.jsonl", output=output, **given
    )


def what_counts(folder: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on how often it died; no clock, no memory."""
    result = json.loads((folder / "result.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
        "model": (folder / "model.safetensors").read_bytes(),
        "learned": (folder / "learned.json").read_text(),
        "rows": [{key: value for key, value in row.items() if key != "seconds"} for row in rows],
        **{key: result[key] for key in ("scores", "verdict", "stopped", "plan_digest", "sets")},
    }


class Deaths:
    """Names every moment at which a process changes files under a folder, and dies at the one it is told to."""

    def __init__(self, folder: Path, dies_at: Callable[[str, int], bool]) -> None:
        self.folder = str(folder)
        self.dies_at = dies_at
        self.count = 0
        self.named = folder.parent / "died-at"

    def moment(self, name: str, finish: Callable[[], object] = lambda: None) -> None:
        """Die here, having done ``finish``, if this is the moment."""
        self.count += 1
        if self.dies_at(name, self.count):
            self.dies_at = lambda _name, _count: False  # what follows changes files too
            finish()
            self.named.write_text(name)
            os._exit(DIED)

    def listen(self) -> None:
        """From now on, in this process, to its end."""
        sys.addaudithook(self._heard)
        append = RunLog.append
        RunLog.append = lambda log, row: (self.moment("half a row", lambda: _half_a_row(log)), append(log, row))[1]
        for module in (sealed, delta_record):
            module.save_file = self._saving(module.save_file)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING)
        if changes and isinstance(arguments[0], str | bytes | Path) and str(arguments[0]).startswith(self.folder):
            self.moment(f"{event} {self._name(str(arguments[0]))}")

    def _saving(self, save: Callable[..., None]) -> Callable[..., None]:
        def half(tensors: Any, path: Path, metadata: Any = None) -> None:
            where = _who_saves()
            if where in {module.__name__ for module in (checkpoint, reference, delta_record)}:
                self.moment(f"half a file of {where}", lambda: _half_a_file(save, tensors, path, metadata))
            save(tensors, path, metadata=metadata)

        return half

    def _name(self, path: str) -> str:
        """A path without what differs from process to process or from example to example."""
        return re.sub(r"[0-9a-f]{32}|\d+", "#", path.removeprefix(self.folder))


def _who_saves() -> str:
    """The module that has a file written, by itself or sealed."""
    frame: Any = sys._getframe(2)
    while frame.f_globals["__name__"] == sealed.__name__:
        frame = frame.f_back
    return str(frame.f_globals["__name__"])


def _half_a_row(log: RunLog) -> None:
    with log._path.open("a") as file:
        file.write('{"step": 1, "epoch"')


def _half_a_file(save: Callable[..., None], tensors: Any, path: Path, metadata: Any) -> None:
    """What safetensors leaves when it dies, and what a plainer writer would."""
    save(tensors, path, metadata=metadata)
    content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    (path.parent / ".tmpAbC123").write_bytes(content)


def in_a_fork(work: Callable[[], object]) -> int:
    """Exit code of a forked process that does the work."""
    child = os.fork()
    if child == 0:
        code = DONE
        try:
            work()
        except BaseException:  # a forked test process must end here, whatever happens
            traceback.print_exc()
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_with_deaths(verb: Callable[[Path, Path], object], clinic: Path, output: Path, dies_at: Any) -> int:
    def work() -> None:
        Deaths(output, dies_at).listen()
        verb(clinic, output)

    return in_a_fork(work)


@pytest.fixture(scope="module")
def clinic(clinic, tmp_path_factory) -> Path:
    """The clinic with ``learned/``, a model that knows its records."""
    folder = tmp_path_factory.mktemp("learned") / "clinic"
    shutil.copytree(clinic, folder)
    plan = {"training": {**TRAINING, "learning_rate": 1e-2, "max_steps": 30}, "measuring": MEASURING}
    pal.learn(folder / "model", folder / "learn.jsonl", output=folder / "learned", plan=plan)
    return folder


@pytest.fixture(scope="module")
def undisturbed(clinic, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Verb -> what counts of a run that nothing disturbed."""
    return {verb.__name__: undisturbed_run(verb, clinic, tmp_path_factory) for verb in (learn, unlearn)}


def undisturbed_run(verb: Callable[[Path, Path], object], clinic: Path, folders: Any) -> dict[str, Any]:
    """What counts of a run in this process: those forked from it find all that it imported."""
    output = folders.mktemp("undisturbed") / "out"
    verb(clinic, output)
    return what_counts(output)


@pytest.mark.slow
@pytest.mark.parametrize("verb", [learn, unlearn], ids=["learn", "unlearn"])
def test_a_death_at_every_kind_of_moment_one_after_the_other(clinic, tmp_path, undisturbed, verb):
    """Every process dies at the first moment at which none died before it, until one finds no such moment and ends."""
    seen: list[str] = []
    output = tmp_path / "out"
    while (code := run_with_deaths(verb, clinic, output, lambda name, _count: name not in seen)) == DIED:
        seen.append((tmp_path / "died-at").read_text())
        assert not output.exists() or (output / "result.json").is_file()
    assert code == DONE
    assert what_counts(output) == undisturbed[verb.__name__]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]
    kinds = " ".join(seen)
    for place in ("half a row", "palimpsest.loop.checkpoint", "plan.json", "checkpoint.safetensors", "remembered"):
        assert place in kinds
    assert ("palimpsest.models.reference" in kinds) == (verb is unlearn)
    assert any(name.startswith("os.rename") and name.endswith(".partial") for name in seen), "the last rename"


@pytest.mark.slow
def test_deaths_at_any_moments(clinic, tmp_path, undisturbed):
    """One death per run, at moments drawn from all of them."""
    moments = tmp_path / "moments"

    def count(name: str, number: int) -> bool:
        moments.write_text(str(number))
        return False

    assert run_with_deaths(unlearn, clinic, tmp_path / "counted", count) == DONE
    for chosen in random.Random(0).sample(range(1, int(moments.read_text())), 3):
        output = tmp_path / str(chosen) / "out"
        output.parent.mkdir()
        _dies_once(clinic, output, chosen)
        assert what_counts(output) == undisturbed["unlearn"]


def _dies_once(clinic: Path, output: Path, chosen: int) -> None:
    assert run_with_deaths(unlearn, clinic, output, lambda _name, number: number == chosen) == DIED
    assert in_a_fork(lambda: unlearn(clinic, output)) == DONE


def test_a_run_that_died_while_it_was_put_in_place_is_not_run_again(clinic, tmp_path, undisturbed):
    output = tmp_path / "out"
    assert run_with_deaths(learn, clinic, output, lambda name, _count: name == "os.rename .partial") == DIED
    assert not output.exists()
    stamp = (tmp_path / "out.partial" / "model.safetensors").stat().st_mtime_ns
    learn(clinic, output)
    assert (output / "model.safetensors").stat().st_mtime_ns == stamp
    assert what_counts(output) == undisturbed["learn"]


def test_a_folder_that_is_not_a_runs_is_not_taken(clinic, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("years of work")
    with pytest.raises(PlanError, match="is no run of palimpsest; move it"):
        learn(clinic, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out.partial").iterdir()] == ["thesis.txt"]


def test_a_resumed_run_holds_the_floor_against_the_model_before_the_run(clinic, tmp_path):
    """Were it held against the model at the resume, a run that dies often enough would never reach its floor."""
    free = {"training": TRAINING, "measuring": MEASURING, "refine": STRICT}
    probabilities = [p.values["retain.prob"] for p in unlearn(clinic, tmp_path / "free", plan=free).curve]
    start, first, second = probabilities[:3]
    assert second < first < start
    refine = {**STRICT, "floor": (second / start * min(first / start, second / first)) ** 0.5}
    plan = {"training": TRAINING, "measuring": MEASURING, "refine": refine}

    class Died(Exception):
        pass

    def die(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "training" and done == 2:
            raise Died

    assert unlearn(clinic, tmp_path / "whole", plan=plan).stopped.startswith("utility floor")
    with pytest.raises(Died):
        unlearn(clinic, tmp_path / "cut", plan=plan, progress=die)
    unlearn(clinic, tmp_path / "cut", plan=plan)
    assert what_counts(tmp_path / "cut") == what_counts(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_with_the_same_bits(clinic, tmp_path):
    """The command line itself, killed by the system once its first checkpoint is there."""
    command = [
        *(sys.executable, "-m", "palimpsest", "unlearn", "--model", str(clinic / "learned"), "--preset", "paper"),
        *("--forget", str(clinic / "forget.jsonl"), "--retain", str(clinic / "retain.jsonl"), "--max-steps", "12"),
        *("--epochs", "99", "--set", "training.checkpoint_steps=1", "--set", 'measuring.metrics=["prob"]'),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, "--output", str(tmp_path / "cut")], start_new_session=True, **quiet)
    while not (tmp_path / "cut.partial" / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)  # one core of two is the process's
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    assert not (tmp_path / "cut").exists()
    for name in ("cut", "whole"):
        assert main([*command[3:], "--output", str(tmp_path / name)]) in {0, 1, 3}
    assert what_counts(tmp_path / "cut") == what_counts(tmp_path / "whole")
