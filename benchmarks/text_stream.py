"""UG-CLU and its rivals on a stream of text requests: six people, three requests to learn, three to unlearn.

    python benchmarks/text_stream.py --data ../shared/data --output /tmp/text-stream [--seeds 0] [--jobs 2]

Writes the data and a bench file, then runs `palimpsest bench clu`, whose tables it ends with; run again, it goes on.

The people are the first six of knowundo-privacy by name, two to a task. The pattern is LLULUU: two tasks are learned,
the private facts (`kind = unlearn`) of one person of the first are unlearned, the third task is learned, then one
person of the second and one of the third ask the same. Two private rows of each of the other three are never learned:
the test set. TinyStories (600) are rehearsed throughout, and the memory holds all that remains. UG-CLU's steps, clip
and mask were chosen on the next six people, seed 10; the rivals' options on the single request of docs/real_input.md,
seed 0. Each has at most about a tenth of the oracle's positions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NUM_PEOPLE, NUM_REPLAY = 6, 600

SMOOTH = {"betas": [0.9, 0.98], "num_train_epochs": 100000, "max_grad_norm": 1.0}
COSINE = {**SMOOTH, "lr_scheduler_type": "cosine", "warmup_steps": 20, "batch_size": 16}
ORACLE = {**COSINE, "learning_rate": 3e-3, "side_batch_size": 8, "max_steps": 300}
LEARN = {**COSINE, "learning_rate": 3e-3, "side_batch_size": {"retain": 12, "replay": 4, "learn": 16}, "max_steps": 200}
SIDES = {"forget": 4, "replay": 2, "retain": 8}
DOWN, CONSTANT = {"lr_scheduler_type": "linear"}, {"lr_scheduler_type": "constant"}
UNLEARN = {**SMOOTH, "learning_rate": 1.3e-3, "batch_size": 8, "side_batch_size": SIDES, "max_steps": 60, **DOWN}
METHODS: Mapping[str, Any] = {
    "ug_clu": {"options": {"fast_norm": 2.0, "mask_examples": 16, "probes": 0}},
    "sfr_on": {
        "training": {"max_steps": 46},
        "options": {"every": 3, "ascent": 1.0, "fast_norm": 1.0, "mask_examples": 96},
    },
    "grad_diff": {"training": {"batch_size": 4, "learning_rate": 3e-4, "max_steps": 15, **CONSTANT}},
    "npo": {"training": {"batch_size": 4, "max_steps": 46, **CONSTANT}},
    "icu": {"training": {"batch_size": 4, "max_steps": 15, **CONSTANT}, "repair": {"steps": 3}},
}
ROWS = ("ug_clu", "er+ug_clu", "er+sfr_on", "er+grad_diff", "er+npo", "er+icu")


def write_data(data: Path, folder: Path) -> None:
    """The stream's examples, what is forgotten of them, the test set and what is rehearsed, as JSONL."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in (data / "knowundo-privacy" / "qa.jsonl").read_text().splitlines()]
    people = sorted({row["person"] for row in rows})[:NUM_PEOPLE]
    asking = people[::2]
    ours = [(f"q{number}", row) for number, row in enumerate(rows) if row["person"] in people]
    private = {name for name, row in ours if row["kind"] == "unlearn"}
    asked = {name for name, row in ours if name in private and row["person"] in asking}
    unseen = {name for name, row in ours if name in private - asked and row["split"] == "val"}
    write(folder / "people.jsonl", (example(name, row) for name, row in ours if name not in unseen))
    write(folder / "forget.jsonl", (example(name, row) for name, row in ours if name in asked))
    write(folder / "test.jsonl", (example(name, row) for name, row in ours if name in unseen))
    lines = (data / "text-domains" / "tinystories.jsonl").read_text().splitlines()[:NUM_REPLAY]
    write(folder / "replay.jsonl", ({"id": f"s{k}", "text": json.loads(line)["text"]} for k, line in enumerate(lines)))


def example(name: str, row: Mapping[str, str]) -> dict[str, str]:
    """A question and its answer, with whom they are about."""
    return {"id": name, "subject": row["person"], "prompt": row["question"] + "\n", "completion": row["answer"]}


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def bench_file(data: Path, folder: Path, rows: Iterable[str]) -> dict[str, Any]:
    """All that defines the bench but its seeds."""
    return {
        "model": str(data / "llama-stories260k"),
        "data": str(folder / "people.jsonl"),
        "test": str(folder / "test.jsonl"),
        "replay": str(folder / "replay.jsonl"),
        "stream": {
            "kind": "interleaved",
            "classes_per_task": 2,
            "pattern": "LLULUU",
            "forget": str(folder / "forget.jsonl"),
        },
        "buffer": "all",
        "rows": {row: {"chain": row} for row in rows},
        "learning": {"training": LEARN},
        "unlearning": {"training": UNLEARN},
        "oracle": {"training": ORACLE},
        "methods": dict(METHODS),
        "encoding": {"truncate": True, "max_length": 256},
    }


def main() -> None:
    """Write everything and run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where llama-stories260k and the others are")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", help="some of the rows, e.g. 'ug_clu,er+npo'")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--jobs", default="1")
    arguments = parser.parse_args()
    folder, data = arguments.output.resolve(), arguments.data.resolve()
    rows = arguments.only.split(",") if arguments.only else ROWS
    write_data(data, folder)
    config = folder / "bench.json"
    config.write_text(json.dumps(bench_file(data, folder, rows), indent=1) + "\n", encoding="utf-8")
    command = ["bench", "clu", "--config", str(config), "--output", str(folder / "bench")]
    command += ["--seeds", arguments.seeds, "--jobs", arguments.jobs]
    print("palimpsest " + " ".join(command), flush=True)
    raise SystemExit(subprocess.run([sys.executable, "-m", "palimpsest", *command], check=False).returncode)


if __name__ == "__main__":
    main()
