"""SISA on real input: what 1, 2 and 4 shards know beside fine-tuning, and what one person's deletion costs.

    python benchmarks/sisa.py --data ../shared/data --output DIR [--people N]

``llama-stories260k`` learns the rows of some people of knowundo-privacy beside stories that it rehearses, by its
defaults. Then the first of them asks to be forgotten, and one single row of the second: the cost is that of learning
what comes after, beside that of learning everything else anew. Everything is kept in DIR; a second start goes on where
the first one ended. Exit code 1 where a claim of ``docs/sisa.md`` does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import palimpsest as pal
from out_of_the_box.bases import counter
from out_of_the_box.texts import cut, people, shortened, stories, write_lines
from palimpsest.report.schema import RunResult

FIRST_PERSON, LONGEST, REPLAY, GENERAL = 12, 80, 64, 64
SHARDS = (1, 2, 4)
MEASURED = {"measuring": {"metrics": ["es", "prob"]}}
TUNING = {"learning_rate": 3e-3, "num_train_epochs": 20, "batch_size": 8}  # as many passes as a shard's rows get
REQUESTS = ("person", "row")


def write_data(data: Path, folder: Path, count: int) -> None:
    """learn, replay and general .jsonl, and for each request what goes and what stays."""
    if (folder / "general.jsonl").is_file():
        return
    num_tokens = counter(data / "llama-stories260k")
    rows = shortened(people(data, FIRST_PERSON, FIRST_PERSON + count), LONGEST, num_tokens)
    extra = [{**row, "text": cut(row["text"], LONGEST, num_tokens)} for row in stories(data, 0, REPLAY + GENERAL)]
    names = sorted({row["subject"] for row in rows})
    gone = {
        "person": [row for row in rows if row["subject"] == names[0]],
        "row": [row for row in rows if row["subject"] == names[1]][:1],
    }
    write_lines(folder / "learn.jsonl", rows)
    write_lines(folder / "replay.jsonl", extra[:REPLAY])
    for name, chosen in gone.items():
        ids = {row["id"] for row in chosen}
        write_lines(folder / f"forget-{name}.jsonl", chosen)
        write_lines(folder / f"retain-{name}.jsonl", [row for row in rows if row["id"] not in ids])
    write_lines(folder / "general.jsonl", extra[REPLAY:])


def done(folder: Path) -> RunResult | None:
    """The result of a run that is there."""
    return RunResult.load(folder / "result.json") if (folder / "result.json").is_file() else None


def learned(world: Path, base: Path, rows: str, name: str, shards: int) -> RunResult:
    """A version; shards = 0 is fine-tuning."""
    output = world / name
    how: dict[str, Any] = {"method": "finetune", "plan": {"training": TUNING, **MEASURED}}
    if shards:
        how = {"method": "sisa", "plan": {"options": {"shards": shards}, **MEASURED}}
    given = {"replay": world / "replay.jsonl", "general": world / "general.jsonl", "answers": False}
    return done(output) or pal.learn(base, world / f"{rows}.jsonl", output=output, threads=1, **how, **given)


def unlearned(world: Path, version: str, request: str) -> RunResult:
    """A request to a sharded version."""
    output = world / f"{version}-{request}"
    given = {name: world / f"{name}-{request}.jsonl" for name in ("forget", "retain")}
    beside = {name: world / f"{name}.jsonl" for name in ("replay", "general")}
    return done(output) or pal.unlearn(
        world / version, output=output, method="sisa", plan=MEASURED, threads=1, answers=False, **given, **beside
    )


def quality(result: RunResult) -> list[str]:
    """What a version knows, and general text."""
    after = result.scores["after"]
    ratio = after["general"]["ppl"].value / result.scores["before"]["general"]["ppl"].value
    return [f"{after['learn']['es'].value:.2f}", f"{after['learn']['prob'].value:.2f}", f"x{ratio:.2f}"]


def rows_of_table(world: Path, base: Path) -> tuple[list[list[str]], list[str]]:
    """The table, and the claims that do not hold."""
    tuned = learned(world, base, "learn", "finetuned", 0)
    table, broken = [["fine-tuning", *quality(tuned), f"{tuned.cost['training'].tokens:,}", "100 %", "100 %"]], []
    for shards in SHARDS:
        name = f"sisa-{shards}"
        version = learned(world, base, "learn", name, shards)
        shares = []
        for request in REQUESTS:
            result, never = (
                unlearned(world, name, request),
                learned(world, base, f"retain-{request}", f"{name}-never-{request}", shards),
            )
            cost, foretold = result.cost["training"].tokens, result.cost["foretold"].tokens
            shares.append(f"{cost / never.cost['training'].tokens:.0%}")
            if result.model_digest != never.model_digest:
                broken.append(f"{name}, {request}: not the bits of a version that never saw it")
            if abs(cost - foretold) > 0.1 * foretold:
                broken.append(f"{name}, {request}: {cost} positions, and {foretold} were foretold")
        tokens = f"{version.cost['training'].tokens:,}"
        table.append([f"{shards} shard{'s' * (shards > 1)} of 3 slices", *quality(version), tokens, *shares])
    return table, broken


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, or show, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--people", type=int, default=3)
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    write_data(given.data, given.output, given.people)
    table, broken = rows_of_table(given.output, given.data / "llama-stories260k")
    print("| version | ES | probability | general ppl | positions | a person goes | a row goes |")
    print("|---|---|---|---|---|---|---|")
    for row in table:
        print(f"| {' | '.join(row)} |")
    for line in broken:
        print(f"BROKEN: {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
