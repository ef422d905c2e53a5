"""What a change costs: start-up and a small run of this checkout beside those of another one, in turns.

    git worktree add ../before COMMIT
    python benchmarks/beside.py ../before/src

    help     CPU seconds of ``palimpsest --help``
    refused  of a command that is refused before torch is imported
    run      of a whole ``palimpsest unlearn`` of 10 steps, with measuring, saving and the page, on a model of 8 rows

Each counts the process and its children. Rounds of both take turns, the shortest of each is compared. Exit code 1 where
a ratio is above ``--most``.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parents[1] / "src"


def cpu_seconds(arguments: Sequence[str], source: Path, folder: Path) -> float:
    """CPU seconds of one command by the package of a checkout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(folder)}
    command = [sys.executable, "-m", "palimpsest", *arguments]
    subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def prepared(folder: Path) -> None:
    """A small model and rows."""
    from speed_training import KNOWING, llama, word_tokenizer, write_rows

    for name, seed in (("forget", 1), ("retain", 2)):
        write_rows(folder / f"{name}.jsonl", 8, seed=seed)
    llama((64, 172, 2, 4, KNOWING[-1])).save_pretrained(folder / "model")
    word_tokenizer(KNOWING[-1]).save_pretrained(folder / "model")


def commands(number: str) -> Mapping[str, Sequence[str]]:
    """Name -> what is run."""
    sets = ("--model", "model", "--forget", "forget.jsonl", "--retain", "retain.jsonl")
    fast = ("--method", "npo", "--lr", "1e-4", "--max-steps", "10")
    return {
        "help": ("--help",),
        "refused": ("unlearn", *sets, "--method", "nonsense", "-o", "no"),
        "run": ("unlearn", *sets, *fast, "-o", f"out-{number}"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ratios; 1 where one is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the src folder of another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=float, default=1.05, help="largest ratio that is no failure")
    given = parser.parse_args(arguments)
    if not (given.other / "palimpsest").is_dir():
        parser.error(f"{given.other} holds no package palimpsest")
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="palimpsest-beside-") as name:
        prepared(Path(name))
        for number in range(given.rounds):
            for who, source in (("this", HERE), ("other", given.other.resolve())):
                for what, command in commands(f"{who}-{number}").items():
                    found.setdefault(what, {}).setdefault(who, []).append(cpu_seconds(command, source, Path(name)))
    ratios = {what: min(of["this"]) / min(of["other"]) for what, of in found.items()}
    for what, of in found.items():
        print(f"{what:8} this {min(of['this']):.3f} s, other {min(of['other']):.3f} s, ratio {ratios[what]:.2f}")
    return int(max(ratios.values()) > given.most)


if __name__ == "__main__":
    raise SystemExit(main())
