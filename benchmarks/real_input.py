"""ICU and its rivals on real input: a trained language model, invented people, private facts to forget.

    python benchmarks/real_input.py --data ../shared/data --output /tmp/real-input [--seeds 0 1 2] [--jobs 2]

Every run is one `palimpsest` command, printed before it starts and skipped when its output is there, so the benchmark
can be stopped and continued. Ends with the tables of docs/real_input.md: each method beside the retrained oracle, the
model left alone ("do nothing") and noise of the size of ICU's own edit ("random edit"), mean and range over the seeds.

The six people are the first of knowundo-privacy by name. Learned: all their rows but eight, two private rows of each
of the four people who stay; these eight are the holdout: facts of the same kind about known people, never shown.
Forgotten: the rows `kind = unlearn` of the other two. TinyStories are replayed (600) and measured (100 others).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors.numpy import load_file

NUM_PEOPLE, NUM_FORGOTTEN = 6, 2
NUM_REPLAY, NUM_GENERAL = 600, 100

ENCODING = ["encoding.truncate=true", "encoding.max_length=256"]
QUICK = "measuring.metrics=[es, ma, prob]"  # EL_10 of the forget set is measured by every check anyway
SMOOTH = ["training.betas=[0.9,0.98]", "training.num_train_epochs=100000", *ENCODING]
LEARN = [
    *SMOOTH,
    "training.learning_rate=0.003",
    "training.batch_size=16",
    "training.side_batch_size=8",
    "training.max_steps=300",
    "training.lr_scheduler_type=cosine",
    "training.warmup_steps=20",
]
FORGET = [
    *SMOOTH,
    QUICK,
    "training.max_grad_norm=1.0",
    "training.max_steps=60",
    "refine.quantile=0.9",
    "refine.share=0.9",
]

SLOW, WIDE = "training.learning_rate=0.0003", "training.side_batch_size=16"

Row = tuple[str, list[str], list[str]]

# name -> (method, --set values, extra arguments); learning rates were chosen on seed 0 among 1e-4, 3e-4 and 1e-3
METHODS: dict[str, Row] = {
    "gradient ascent": ("gradient_ascent", [SLOW], []),
    "GradDiff": ("grad_diff", [SLOW, WIDE], []),
    "KL": ("kl", [SLOW, WIDE], []),
    "NPO": ("npo", ["training.learning_rate=0.001", WIDE], []),
    "ICU": ("icu", [SLOW], []),
    "ICU, repaired, short": (
        "icu",
        [
            "training.learning_rate=0.001",
            "repair.steps=3",
            "training.side_batch_size={retain: 16, replay: 4}",
            "training.max_steps=11",
        ],
        ["--replay", "replay.jsonl"],
    ),
    "ICU, repaired": (
        "icu",
        ["training.learning_rate=0.0007", "repair.steps=4", "training.side_batch_size={retain: 16, replay: 4}"],
        ["--replay", "replay.jsonl"],
    ),
}
# what pairing, deduplication, refinement and the retain term are worth; on the first seed
ABLATIONS: dict[str, Row] = {
    "ICU, no dedup": ("icu", [SLOW, "pairing.dedup=false"], []),
    "ICU, MiniLM pairs": ("icu", [SLOW, "pairing.encoder=all-MiniLM-L6-v2"], []),
    "ICU, random pairs": ("icu", [SLOW, "pairing.random=true"], []),
    "ICU, no refinement": ("icu", [SLOW, "training.max_steps=39"], ["--no-refine"]),
    "ICU, retain weight 5": ("icu", [SLOW, WIDE, "icu.retain_weight=5"], []),
    "GradDiff, alpha 5": ("grad_diff", [SLOW, WIDE, "grad_diff.alpha=5"], []),
}


def write_rows(path: Path, rows: list[dict]) -> None:
    if path.exists():
        return
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_data(shared: Path, folder: Path) -> None:
    """learn, forget, retain, holdout, replay and general .jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in (shared / "knowundo-privacy" / "qa.jsonl").read_text().splitlines()]
    people = sorted({row["person"] for row in rows})[:NUM_PEOPLE]
    forgotten, kept = people[:NUM_FORGOTTEN], people[NUM_FORGOTTEN:]
    ours = [(f"q{i}", row) for i, row in enumerate(rows) if row["person"] in people]

    def chosen(wanted) -> list[dict]:
        return [
            {"id": i, "subject": row["person"], "prompt": row["question"] + "\n", "completion": row["answer"]}
            for i, row in ours
            if wanted(row)
        ]

    def is_holdout(row: dict) -> bool:
        return row["person"] in kept and row["kind"] == "unlearn" and row["split"] == "val"

    def is_forgotten(row: dict) -> bool:
        return row["person"] in forgotten and row["kind"] == "unlearn"

    write_rows(folder / "learn.jsonl", chosen(lambda row: not is_holdout(row)))
    write_rows(folder / "forget.jsonl", chosen(is_forgotten))
    write_rows(folder / "retain.jsonl", chosen(lambda row: not is_holdout(row) and not is_forgotten(row)))
    write_rows(folder / "holdout.jsonl", chosen(is_holdout))
    lines = (shared / "text-domains" / "tinystories.jsonl").read_text().splitlines()[: NUM_REPLAY + NUM_GENERAL]
    stories = [{"id": f"s{i}", "text": json.loads(line)["text"]} for i, line in enumerate(lines)]
    write_rows(folder / "replay.jsonl", stories[:NUM_REPLAY])
    write_rows(folder / "general.jsonl", stories[NUM_REPLAY:])


def run(folder: Path, arguments: list[str], sets: list[str]) -> None:
    """One command, in the folder of the data; exit codes 1 and 3 (failed, undecided) are results like any other."""
    command = [*arguments, *(part for value in sets for part in ("--set", value)), "--threads", "1"]
    print("palimpsest " + " ".join(f"'{a}'" if set(a) & set(" []{}") else a for a in command), flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "palimpsest", *command]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    if done.returncode not in (0, 1, 3) or "error:" in done.stderr:
        raise SystemExit(f"exit code {done.returncode}\n{done.stderr[-2000:]}")


def run_seed(folder: Path, base: str, seed: int, rows: dict[str, Row]) -> None:
    """Learn, retrain, and every row, for one seed."""
    tag = f"seed{seed}"
    common = ["--general", "general.jsonl", "--seed", str(seed)]
    learned, oracle = f"{tag}/learned", f"{tag}/oracle"
    (folder / tag).mkdir(exist_ok=True)
    replay = ["--replay", "replay.jsonl"]
    run(folder, ["learn", "--model", base, "--data", "learn.jsonl", *replay, "--output", learned, *common], LEARN)
    sets = [part for name in ("forget", "retain", "holdout") for part in (f"--{name}", f"{name}.jsonl")]
    request = ["unlearn", "--model", learned, *sets, *common]
    run(folder, [*request, "--method", "retrain", "--base", base, *replay, "--output", oracle], LEARN)
    beside = [*request, "--oracle", oracle]
    for name, (method, values, extra) in rows.items():
        usual = [v for v in FORGET if not ("--no-refine" in extra and v.startswith("refine"))]
        run(folder, [*beside, "--method", method, "--output", f"{tag}/{folder_of(name)}", *extra], [*usual, *values])
    norm = distance(folder / learned, folder / tag / folder_of("ICU, repaired"))
    edit = [f"random_edit.norm={norm:.6f}", f"random_edit.seed={seed}", QUICK, *ENCODING]
    run(folder, [*beside, "--method", "random_edit", "--output", f"{tag}/random-edit"], edit)


def folder_of(name: str) -> str:
    """A row's name as a folder's."""
    return name.replace(" ", "-").replace(",", "")


def distance(left: Path, right: Path) -> float:
    """L2 distance of two models."""
    a, b = (load_file(folder / "model.safetensors") for folder in (left, right))
    return sum(float(((a[n] - b[n]) ** 2).sum()) for n in a) ** 0.5


def row_of(folder: Path, seed: int, name: str) -> dict[str, float]:
    """The numbers of one run."""
    column = "before" if name == "do nothing" else "oracle" if name == "oracle" else "after"
    source = folder_of("ICU, repaired" if column != "after" else name)
    result = json.loads((folder / f"seed{seed}" / source / "result.json").read_text())
    scores, before, oracle = (result["scores"][c] for c in (column, "before", "oracle"))
    training = result["cost"]["oracle_training" if name == "oracle" else "training"]
    seconds = 0.0 if name == "do nothing" else training["seconds"]
    return {
        "forget ES": scores["forget"]["es"]["value"],
        "forget MA": scores["forget"]["ma"]["value"],
        "gap ES": abs(scores["forget"]["es"]["value"] - oracle["forget"]["es"]["value"]),
        "gap MA": abs(scores["forget"]["ma"]["value"] - oracle["forget"]["ma"]["value"]),
        "retain ES": scores["retain"]["es"]["value"],
        "retain MA": scores["retain"]["ma"]["value"],
        "general ppl / before": scores["general"]["ppl"]["value"] / before["general"]["ppl"]["value"],
        "seconds": seconds,
        "of the oracle's seconds": seconds / result["cost"]["oracle_training"]["seconds"],
        "of its tokens": (seconds > 0) * training["tokens"] / result["cost"]["oracle_training"]["tokens"],
    }


def table(folder: Path, seeds: list[int], names: list[str]) -> str:
    """Markdown: mean over the seeds, range in brackets where there are several."""
    columns = list(row_of(folder, seeds[0], "oracle"))
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        rows = [row_of(folder, seed, name) for seed in seeds]
        cells = [cell([row[column] for row in rows]) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(values: list[float]) -> str:
    """Mean, and range of several values."""
    digits = 0 if max(values) >= 10 else 2
    spread = f" [{min(values):.{digits}f}, {max(values):.{digits}f}]" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where llama-stories260k and the others are")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="seeds side by side; one thread each")
    arguments = parser.parse_args()
    write_data(arguments.data, arguments.output)
    base = str((arguments.data / "llama-stories260k").resolve())
    first = arguments.seeds[0]

    def one(seed: int) -> None:
        run_seed(arguments.output, base, seed, {**METHODS, **(ABLATIONS if seed == first else {})})

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(one, arguments.seeds))
    print(table(arguments.output, arguments.seeds, ["oracle", "do nothing", "random edit", *METHODS]))
    print(f"\nAblations, seed {first}:\n")
    print(table(arguments.output, [first], ["oracle", "ICU", *ABLATIONS]))


if __name__ == "__main__":
    main()
