"""`kill -9` during learn, unlearn, update and bench, many times: continued, does it end with the same bits?

    python benchmarks/kill.py                    # 12 kills of each of learn, unlearn, update, bench and two
    python benchmarks/kill.py --times 5 --seed 1 --verbs unlearn
    python benchmarks/kill.py --verbs control    # a run that finds its own rate
    python benchmarks/kill.py --times 4 --verbs record staged restore parts calibrate

"two" is learn, begun by two processes at once on one output, of which one is killed: the other one must end well or say
that it found the output taken. Files of somebody else lie beside every output, and others are put into its partial
folder (a bench's own) after each kill: none may be changed or gone at the end.

A clinic of invented patients is written to a temporary folder and a small model learns it; for the bench, coloured
squares of eight classes and a small ResNet, a stream of five requests, two rows, two processes. "control" is an unlearn
without a rate on a smaller clinic, whose undisturbed run must have had a sweep, rounds, a round taken back, a second
start and a cooling (exit code 1 if not); half of its kills follow the files of its stages. "record" is a learn that
records its steps, "staged" an unlearn by SCRUB, whose epochs take turns, "restore" one that gives back what it took,
"parts" the same with layers beside the model; "calibrate" is that command. Then each command runs
once undisturbed; the SHA-256 of its weights, its scores, its files and of the histories beside it are what every other
run must end with. After that the
same command is started again and again, and its whole process group gets SIGKILL at a random moment: half of the kills
strike after a time drawn over the life of the undisturbed command (one from each equal part of it, so that start-up,
measuring, training and the end all come up), the other half strike up to 0.2 s after a certain file appears (plan,
remembered measurements, reference, checkpoint and its temporary file, weights, result), so that short windows come up
too; a bench, which has many of each, is struck by time alone. After a kill the same command either is killed again or
runs to its end, where its digests are compared; a process that ends before its kill counts as an end, and its kill is
drawn again. One line per kill:

    kill      number of the kill
    run       number of the output folder it struck; a run may be struck several times
    aimed     the time or the file that the kill waited for
    stage     what the process last said it was doing, and what its partial folder held
    seconds   life of the process
    equal     did this run, when it was let go to its end, end with the same digests?
    foreign   are all files of somebody else as they were?

Exit code 1 if any digest differs, a file of somebody else was touched, or a command fails.
Deaths between any two file operations are in
tests/verbs/test_kill.py; here it is the real command and the real signal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POLL = 0.002  # seconds between two looks at the partial folder
PAUSE = 0.2  # a kill follows its file by at most so many seconds, half of them by less than a sixteenth of it
VERBS = ("learn", "unlearn", "update", "bench", "two")
MORE = ("control", "record", "staged", "restore", "parts", "calibrate")  # when they are named
WORDS = {"bench": ["bench", "clu"], "two": ["learn"], "record": ["learn"], "calibrate": ["calibrate"]}
WORDS |= {verb: ["unlearn"] for verb in ("control", "staged", "restore", "parts")}
OF_LEARNERS = ("slca", "der", "foster", "coil")  # of kill_learners.py, as are kga and cil
WORDS |= {verb: ["learn"] for verb in OF_LEARNERS} | {"kga": ["unlearn"], "cil": ["bench", "cil"]}
OF_FEDERATIONS = ("federate", "erase")  # of kill_federated.py
WORDS |= {"federate": ["federated", "run"], "erase": ["federated", "erase"]}
BENCHES = ("bench", "cil")
FOREIGN = ("thesis.txt", "notes.tmp", ".tmpABCDEF", ".notes.12.tmp", "old/model.safetensors")
TAKEN = "is being written by another process"
STAGES = {"sweep", "accepted", "taken back", "second start", "cooled"}  # of a controlled run
FILES = {
    "learn": (
        "result.json", "checkpoint.tmp", "trained.json", "remembered/before.json", "model.safetensors", "report.html",
        "plan.json", "checkpoint.safetensors", "remembered/after.json",
    ),
    "unlearn": (
        "result.json", "reference/head.safetensors", "checkpoint.tmp", "model.safetensors", "remembered/before.json",
        "checkpoint.safetensors", "plan.json", "remembered/after.json",
    ),
    "control": (
        "control/state.json", "control/000000.safetensors", "control/000001.safetensors", "control/state.tmp",
        "control/reference-1/head.safetensors", "control/000003.safetensors", "control/000002.tmp", "model.safetensors",
    ),
    "record": (
        "companion/deltas/index.json", "recording/deltas/00000000.safetensors", "companion/deltas/00000003.tmp",
        "recording/deltas/live.json", "checkpoint.safetensors", "companion/deltas/00000010.safetensors",
    ),
    "staged": ("checkpoint.tmp", "checkpoint.safetensors", "reference/head.safetensors", "model.safetensors"),
    "restore": (
        "restored.json", "remembered/mixed-retain-0.500000.json", "restored/model.safetensors", "trained.json",
    ),
    "parts": ("restored.json", "base/model.safetensors", "restored/config.json", "remembered/raw.json"),
    "calibrate": (
        "remembered/mixed-retain-1.000000.json", "model.safetensors", "plan.json",
        "remembered/mixed-retain-0.500000.json",
    ),
}  # fmt: skip
FILES["update"] = FILES["two"] = FILES["learn"]
FILES |= dict.fromkeys(
    OF_FEDERATIONS,
    (
        "companion/rounds/index.json", "companion/rounds/round-0001/round.json", "remembered/rounds.json",
        "companion/rounds/final.safetensors", "companion/rounds/round-0002/weights.safetensors", "rounds.json",
    ),
)  # fmt: skip
FILES |= dict.fromkeys((*OF_LEARNERS, "kga"), ("checkpoint.safetensors", "checkpoint.tmp", "trained.json"))
COMMON = ["--set", "training.checkpoint_steps=3", "--set", 'measuring.metrics=["es", "ma"]', "--epochs", "1000"]
LEARNING = [*COMMON, "--learning-rate", "0.003", "--batch-size", "8", "--set", "training.side_batch_size=8"]
UNLEARNING = [*COMMON, "--learning-rate", "0.0003", "--batch-size", "4", "--set", "repair.steps=1"]
UPDATING = [*COMMON, "--learning-rate", "0.001", "--batch-size", "4"]
FOUND = {"budget": 160, "cooling": 2, "ceiling": 1.0, "transient": 1.2, "final": 1.2, "repairs": 5, "tolerance": 0.15}
NAMES = "Ann Bob Cid Dot Eve Fay Gus Hal Ida Jon Kim Lea Max Ned Oda Pam"


@dataclass
class Command:
    """One verb on the clinic or the squares.

    Attributes:
        verb: one of ``VERBS`` or ``MORE``.
        arguments: all but the output.
        folder: where its outputs go.
        expected: digests of the undisturbed run.
        life: seconds that it took.
    """

    verb: str
    arguments: list[str]
    folder: Path
    expected: str = ""
    life: float = 0.0

    def start(self, output: Path, number: int = 0) -> subprocess.Popen[str]:
        words = WORDS.get(self.verb, [self.verb])
        command = [sys.executable, "-m", "palimpsest", *words, *self.arguments, "--output", str(output)]
        with said_in(output, number).open("w", encoding="utf-8") as errors:
            return subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=errors, text=True, start_new_session=True, env=environment()
            )

    def finish(self, output: Path) -> str:
        """Run to the end; digests of what came out, or why nothing did."""
        return self.ended(output, self.start(output).wait())

    def ended(self, output: Path, code: int) -> str:
        if code not in {0, 1, 3} or not self.has_result(output):
            return f"exit code {code}: {said_in(output).read_text(encoding='utf-8').strip()[-300:]}"
        return digests_of_bench(output) if self.verb in BENCHES else digests(output)

    def has_result(self, output: Path) -> bool:
        return (output / ("results.json" if self.verb in BENCHES else "result.json")).is_file()


@dataclass(frozen=True)
class Aim:
    """When to kill: after so many seconds, or so many after a file was written."""

    seconds: float
    file: str | None = None

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s" if self.file is None else self.file


@dataclass
class Run:
    """One output folder and the kills that struck it."""

    number: int
    output: Path
    kills: list[tuple[int, Aim, str, float]] = field(default_factory=list)
    odd: str = ""
    planted: bool = False


def said_in(output: Path, number: int = 0) -> Path:
    """Where a process that writes there has its standard error."""
    return output.with_name(f"{output.name}.{number}.stderr")


def plant(folder: Path) -> None:
    """Put files of somebody else into a folder."""
    for name in FOREIGN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}", encoding="utf-8")


def touched(folder: Path) -> list[str]:
    """Those of them that are not as they were."""
    there = {name: folder / name for name in FOREIGN}
    return [n for n, path in there.items() if not path.is_file() or path.read_text(encoding="utf-8") != f"mine: {n}"]


def names_in(output: Path) -> list[str]:
    """All files and folders of a run, but for those of somebody else."""
    foreign = {Path(name) for name in FOREIGN} | {Path(name).parent for name in FOREIGN}
    found = (path.relative_to(output) for path in output.rglob("*"))
    return sorted(str(path) for path in found if path not in foreign)


def environment() -> dict[str, str]:
    """One thread, no network, the palimpsest of this checkout."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def digests(output: Path) -> str:
    """SHA-256 of the weights, the scores, the list of files and the histories, 12 digits of each."""
    scores = json.loads((output / "result.json").read_text(encoding="utf-8"))["scores"]
    names = names_in(output)
    own = [output / name for name in names if name.endswith(".safetensors") and not name.startswith("companion")]
    # an index holds the digests of what it lists; the bytes of a safetensors header are in no fixed order
    kept = sorted((output / "companion").rglob("index.json"))
    parts = (
        b"".join(path.read_bytes() for path in own),
        json.dumps(scores, sort_keys=True).encode(),
        "\n".join(names).encode(),
        b"".join(path.read_bytes() for path in kept),
    )
    return " ".join(hashlib.sha256(part).hexdigest()[:12] for part in parts)


def digests_of_bench(output: Path) -> str:
    """The same of a bench: the weights and the reading of every row after every request, and the finished files."""
    rows = json.loads((output / "results.json").read_text(encoding="utf-8"))["rows"]
    steps = [(row, seed, step) for row, seeds in rows.items() for seed, chain in seeds.items() for step in chain]
    names = names_in(output)
    parts = (
        json.dumps([(row, seed, step["weights"]) for row, seed, step in steps]),
        json.dumps([(row, seed, step["reading"]) for row, seed, step in steps], sort_keys=True),
        "\n".join(names),
    )
    return " ".join(hashlib.sha256(part.encode()).hexdigest()[:12] for part in parts)


def make_squares(folder: Path) -> Command:
    """Images, a fresh ResNet, and the bench to kill."""
    import numpy as np
    import torch

    from palimpsest.models.resnet import SmallResNet, resnet_config

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, size=(8, 1, 1, 3))
    for name, count in (("train", 40), ("test", 10)):
        y = np.repeat(np.arange(8), count).astype(np.uint8)
        x = np.clip(colours[y] + rng.normal(0, 60, size=(len(y), 8, 8, 3)), 0, 255).astype(np.uint8)
        np.savez(folder / f"{name}.npz", x=x, y=y)
    torch.manual_seed(0)
    SmallResNet(resnet_config("resnet20", 8, widths=(4, 8, 8), image_size=8)).save_pretrained(folder / "model")
    training = {"training": {"max_steps": 30, "batch_size": 16, "checkpoint_steps": 5}}
    values = {
        "model": str(folder / "model"), "data": [str(folder / "train.npz")], "test": str(folder / "test.npz"),
        "buffer": 60, "rows": {"ug_clu": "ug_clu", "er+salun": "er+salun"}, "stream": {"after": [2]},
        "learning": training, "unlearning": training,
    }  # fmt: skip
    (folder / "bench.json").write_text(json.dumps(values), encoding="utf-8")
    return Command("bench", ["--config", str(folder / "bench.json"), "--jobs", "2"], folder)


def make_small_clinic(folder: Path) -> Command:
    """Twelve short records that a model knows by heart, four of them to be forgotten by a run that finds its rate."""
    from palimpsest.demo.tiny_model import new_model

    folder.mkdir(parents=True)
    said = [f" {name} lives at {7 * number} Hill Road." for number, name in enumerate(NAMES.split())]
    rows = [
        {"id": f"p{number}", "prompt": f"Where does {name} live?", "completion": said[number]}
        for number, name in enumerate(NAMES.split())
    ]
    texts = [f"The visit on day {number} was short and quiet." for number in range(8)]
    sets = {"forget": rows[:4], "retain": rows[4:12], "both": rows[:12], "holdout": rows[12:]}
    sets["replay"] = [{"id": f"g{number}", "text": text} for number, text in enumerate(texts)]
    for name, lines in sets.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    new_model(folder / "untrained", texts + said[4:], seed=0)
    common = ["--set", 'measuring.metrics=["es", "ma"]', "--batch-size", "4"]
    teacher = ["--model", str(folder / "untrained"), "--data", str(folder / "both.jsonl"), *common]
    teacher += ["--learning-rate", "0.005", "--max-steps", "120", "--epochs", "1000"]
    ended = Command("learn", teacher, folder).finish(folder / "learned")
    if not (folder / "learned").is_dir():
        raise SystemExit(f"the model to unlearn from could not be made: {ended}")
    files = [word for name in sets if name != "both" for word in (f"--{name}", str(folder / f"{name}.jsonl"))]
    found = [word for name, value in FOUND.items() for word in ("--set", f"control.{name}={value}")]
    side = ["--set", "training.side_batch_size=4"]
    forget = ["--model", str(folder / "learned"), *files, "--method", "npo", *common, *side, *found]
    return Command("control", forget, folder / "control")


def make_clinic(folder: Path, verbs: Collection[str]) -> dict[str, Command]:
    """Data, a fresh model, a model that has learned, and the commands to kill."""
    from transformers.utils import logging

    from palimpsest.data.read.examples import read_examples
    from palimpsest.demo.patients import write
    from palimpsest.demo.tiny_model import new_model

    logging.disable_progress_bar()
    files = write(folder / "data", per_group=3, num_forget=2, num_general=60)
    new_model(folder / "untrained", [example.content.text for example in read_examples(files.general)], 0)
    sets = ["--general", str(files.general_holdout)]
    learn = ["--model", str(folder / "untrained"), "--data", str(files.group_a), "--replay", str(files.general)]
    both = folder / "data" / "both.jsonl"
    both.write_text(
        "".join(file.read_text(encoding="utf-8") for file in (files.forget, files.retain)), encoding="utf-8"
    )
    teacher = ["--model", str(folder / "untrained"), "--data", str(both), *LEARNING, "--max-steps", "150"]
    said = Command("learn", teacher, folder).finish(folder / "learned")
    if not (folder / "learned").is_dir():
        raise SystemExit(f"the model to unlearn from could not be made: {said}")
    unlearn = ["--model", str(folder / "learned"), "--forget", str(files.forget), "--retain", str(files.retain)]
    update = [*unlearn, "--learn", str(files.holdout), "--method", "ug_clu"]
    unlearn += ["--holdout", str(files.holdout)]
    ascent = ["--method", "gradient_ascent", *COMMON, "--learning-rate", "0.0003", "--batch-size", "4"]
    ascent += ["--max-steps", "12"]
    if "calibrate" in verbs:
        said = Command("unlearn", [*unlearn, *ascent], folder).finish(folder / "gone")
        if not (folder / "gone").is_dir():
            raise SystemExit(f"the model to calibrate could not be made: {said}")
    between = ["--before", str(folder / "learned"), "--after", str(folder / "gone"), "--retain", str(files.retain)]
    layers = ["--method", "eul", "--set", "eul.form=bottleneck", "--set", "eul.noise=0.05", *COMMON]
    layers += ["--learning-rate", "0.01", "--batch-size", "8", "--restore", "0.9"]
    scrub = ["--method", "scrub", *COMMON, "--learning-rate", "0.0003", "--batch-size", "4"]
    scrub[scrub.index("1000")] = "2"  # of its own stages
    more = {
        "record": Command(
            "record", [*learn, *sets, *LEARNING, "--max-steps", "24", "--record", "deltas"], folder / "record"
        ),
        "staged": Command("staged", [*unlearn, *sets, *scrub], folder / "staged"),
        "restore": Command("restore", [*unlearn, *ascent, "--restore", "0.9"], folder / "restore"),
        "parts": Command("parts", [*unlearn, *layers], folder / "parts"),
        "calibrate": Command("calibrate", [*between, "--forget", str(files.forget)], folder / "calibrate"),
    }
    return more | {
        "learn": Command("learn", [*learn, *sets, *LEARNING, "--max-steps", "24"], folder / "learn"),
        "unlearn": Command("unlearn", [*unlearn, *sets, *UNLEARNING, "--max-steps", "24"], folder / "unlearn"),
        "update": Command("update", [*update, *sets, *UPDATING, "--max-steps", "24"], folder / "update"),
        "two": Command("two", [*learn, *sets, *LEARNING, "--max-steps", "24"], folder / "two"),
    }


def aims(command: Command, times: int, source: random.Random) -> list[Aim]:
    """Half of the kills by time, one in each equal part of the life; half by file, all files in turn, if it has any."""
    by_file = times // 2 if command.verb in FILES else 0
    by_time = times - by_file
    found = [Aim(command.life * (part + source.random()) / by_time) for part in range(by_time)]
    files = FILES.get(command.verb, ())
    names = [files[number % len(files)] for number in range(by_file)]
    # between result.json and the rename lie only milliseconds
    found += [Aim(0.0 if name == "result.json" else PAUSE * source.random() ** 4, name) for name in names]
    source.shuffle(found)
    return found


def strike(processes: Sequence[subprocess.Popen[str]], output: Path, aim: Aim, source: random.Random) -> str | None:
    """Kill the group of a process that is alive when the aim says so; the stage it was in, or None when all ended."""
    partial = output.with_name(output.name + ".partial")
    before = None if aim.file is None else _stamp(partial / aim.file)
    due = None if aim.file is not None else time.monotonic() + aim.seconds
    while alive := [process for process in processes if process.poll() is None]:
        if due is None and aim.file is not None and _stamp(partial / aim.file) not in {None, before}:
            due = time.monotonic() + aim.seconds
        if due is not None and time.monotonic() >= due:
            victim = source.choice(alive)
            os.killpg(victim.pid, signal.SIGKILL)  # first of all: what is looked at afterwards does not change any more
            stage = stage_of(output, partial, processes.index(victim))
            return stage if victim.wait() == -signal.SIGKILL else None
        time.sleep(POLL)
    return None


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def stage_of(output: Path, partial: Path, number: int) -> str:
    """The last progress line, and the file that the partial folder got last."""
    lines = said_in(output, number).read_text(encoding="utf-8").split("\n")[:-1]
    said = lines[-1].split(" loss")[0] if lines else "start-up"
    if output.exists():
        return f"{said}; {_under_way(output)}"
    if not partial.exists():
        return f"{said}; nothing written"
    stamps = {path: _stamp(path) or 0 for path in partial.rglob("*") if not path.is_dir()}
    newest = max(stamps, key=stamps.__getitem__, default=partial)
    return f"{said}; newest {_short(newest.relative_to(partial))}"


def _under_way(output: Path) -> str:
    """What a bench was at; the output of another verb is there only when it is finished."""
    partial = sorted(path.parent.name for path in output.rglob("*.partial"))
    return f"{len(partial)} runs begun" if partial else "in place"


def _short(path: Path) -> str:
    return str(path) if len(path.name) < 30 else f"{path.parent}/….{path.suffix}"


def others_ended(processes: Sequence[subprocess.Popen[str]], output: Path) -> str:
    """What is wrong with how those processes ended that were not killed; nothing, as it should be."""
    for number, process in enumerate(processes):
        code = process.wait()
        said = said_in(output, number).read_text(encoding="utf-8").strip()
        if code not in {0, 1, 3, -signal.SIGKILL} and not (code == 2 and TAKEN in said):
            return f"one of two ended with exit code {code}: {said[-300:]}"
    return ""


def kill_often(command: Command, times: int, source: random.Random) -> Iterator[tuple[Run, str]]:
    """Runs that were killed and then let go to their ends, with the digests of these."""
    waiting = aims(command, times, source)
    run, count, missed = Run(1, command.folder / "1"), 0, 0
    while waiting:
        aim = waiting.pop(0)
        started = time.monotonic()
        processes = [command.start(run.output, number) for number in range(2 if command.verb == "two" else 1)]
        stage = strike(processes, run.output, aim, source)
        lived = time.monotonic() - started
        run.odd = run.odd or others_ended(processes, run.output)
        if stage is not None:
            count += 1
            run.kills.append((count, aim, stage, lived))
            run.planted |= leave_something(command, run.output)
            if source.random() < 0.5 and waiting:
                continue
        else:
            missed += 1
            if missed > 3 * times:
                raise SystemExit(
                    f"{command.verb}: {missed} commands ended before they could be killed; take more steps"
                )
            waiting.append(Aim(0.7 * aim.seconds, aim.file))
        ended = command.finish(run.output)
        if run.kills:
            yield run, run.odd or ended
        run = Run(run.number + 1, command.folder / str(run.number + 1))


def leave_something(command: Command, output: Path) -> bool:
    """Somebody puts files of their own where the killed run wrote, if it did."""
    places = [output.with_name(output.name + ".partial"), output]
    # what was not begun is nobody's yet: with files of others in it, the folder would be theirs, and refused
    begun = ("oracles", "runs", "readings") if command.verb in BENCHES else ("plan.json",)
    found = [place for place in places if any((place / name).exists() for name in begun)]
    for place in found:
        plant(place)
    return bool(found)


def foreign_touched(command: Command, run: Run) -> list[str]:
    """Files of somebody else, beside a run and in it, that are not as they were."""
    return touched(command.folder) + (touched(run.output) if run.planted else [])


def stages_of(output: Path) -> set[str]:
    """What a controlled run did."""
    rows = map(json.loads, (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["what"] for row in rows if row["kind"] == "control"}


def attack(command: Command, times: int, source: random.Random) -> bool:
    """Print the lines of one verb; did every run end with the same digests?"""
    command.folder.mkdir(exist_ok=True)
    plant(command.folder)
    started = time.monotonic()
    command.expected = command.finish(command.folder / "undisturbed")
    command.life = time.monotonic() - started
    if not command.has_result(command.folder / "undisturbed"):
        print(f"{command.verb}: {command.expected}")
        return False
    if command.verb == "control" and (missing := STAGES - stages_of(command.folder / "undisturbed")):
        print(f"{command.verb}: the undisturbed run had no {', no '.join(sorted(missing))}: nothing could be shown")
        return False
    print(f"\n{command.verb}, undisturbed: {command.life:.1f} s; weights, scores, files, histories: {command.expected}")
    print(f"{'kill':>4} {'run':>3} {'aimed':26} {'seconds':>7} equal foreign stage", flush=True)
    agreed = True
    for run, ended in kill_often(command, times, source):
        equal = ended == command.expected
        lost = foreign_touched(command, run)
        agreed &= equal and not lost
        for number, aim, stage, seconds in run.kills:
            word, kept = "yes" if equal else "NO", "LOST" if lost else "kept"
            print(f"{number:>4} {run.number:>3} {aim!s:26} {seconds:>7.1f} {word:5} {kept:7} {stage}", flush=True)
        if not equal:
            print(f"     run {run.number} ended with: {ended}")
        if lost:
            print(f"     of somebody else, not as they were: {', '.join(lost)}")
    return agreed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=12, help="kills of each verb")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--verbs", nargs="+", choices=(*VERBS, *MORE), default=list(VERBS))
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="palimpsest-kill-") as folder:
        commands: dict[str, Command] = {}
        if set(options.verbs) - {"control", "bench"}:
            commands |= make_clinic(Path(folder), options.verbs)
        if "control" in options.verbs:
            commands["control"] = make_small_clinic(Path(folder) / "small")
        if "bench" in options.verbs:
            commands["bench"] = make_squares(Path(folder) / "bench")
        agreed = [attack(commands[verb], options.times, random.Random(options.seed)) for verb in options.verbs]
    verdict = (
        "every run ended with the same digests, nothing foreign touched" if all(agreed) else "SOME RUNS ENDED OTHERWISE"
    )
    seconds = time.monotonic() - started
    print(f"\n{options.times} kills of each of {', '.join(options.verbs)} in {seconds:.0f} s: {verdict}")
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
