"""Every way to take a client out of a federation: docs/erasers.md and docs/results/federated.jsonl.

    python benchmarks/federated.py --json rows.jsonl [--tasks digits] [--seeds 0,1]
    .venv-federated/bin/python benchmarks/federated.py --json rows.jsonl --through flower [--seeds 0]
    python benchmarks/federated.py --json rows.jsonl --tasks "people,other people" --data ../shared/data --output DIR
    python benchmarks/federated.py --table docs/results/federated.jsonl [--markdown docs/erasers.md]

digits: five clients share the digits of scikit-learn, and one of them has put a backdoor in; 20 rounds of 2 epochs
(``federated_bench/digits.py``). people: three clients teach ``llama-stories260k`` what they know of one person each, by
LoRA (``federated_bench/people.py``). Rows that are in --json are not made again. Seconds are of this process's CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from federated_bench.table import page, rows_of

LAST = {
    **dict.fromkeys(("digits", "digits through Flower"), "closed_form"),
    **dict.fromkeys(("people", "other people"), "adapter_per_client"),
}
"""Of the rows of a seed."""


def digits_of(seed: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows of a seed."""
    from federated_bench.digits import rows_of_seed

    return iter(rows_of_seed(seed))


def digits_through_flower(seed: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The same, each client in a process of Flower's simulation; to the same bits."""
    from federated_bench.through_flower import rows_through_flower

    return iter(rows_through_flower(seed))


def people_of(seed: int, arguments: argparse.Namespace, task: str = "people") -> Iterator[dict[str, Any]]:
    """All rows of a client's erasure."""
    from federated_bench.people import rows_of_client

    return rows_of_client(task, seed, arguments.data.resolve(), arguments.output.resolve())


TASKS: Mapping[str, Callable[[int, argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "digits": digits_of,
    "digits through Flower": digits_through_flower,
    "people": people_of,
    "other people": partial(people_of, task="other people"),
}


def measure(arguments: argparse.Namespace) -> None:
    """The rows that are asked for, each written as it comes; those that are there are not written again."""
    import torch

    torch.set_num_threads(1)
    rows = rows_of(arguments.json)
    known = {(row["task"], row["seed"], row["eraser"]) for row in rows}
    ended = {(row["task"], row["seed"]) for row in rows if row["eraser"] == LAST[row["task"]]}
    way = " through Flower" if arguments.through == "flower" else ""
    wanted = [
        (task + way, seed) for task in arguments.tasks.split(",") for seed in map(int, arguments.seeds.split(","))
    ]
    for task, seed in (one for one in wanted if one not in ended):
        for row in TASKS[task](seed, arguments):
            if (task, seed, row["eraser"]) not in known:
                rows.append(row)
                whole = arguments.json.with_suffix(".new")
                whole.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
                whole.replace(arguments.json)
                print(json.dumps(row), flush=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="one line per row; seeds that are there are not measured again")
    parser.add_argument("--tasks", default="digits")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--through", default="here", choices=["here", "flower"], help="flower: of digits alone")
    parser.add_argument("--data", type=Path, help="where llama-stories260k and knowundo-privacy are")
    parser.add_argument("--output", type=Path, help="keeps the federations of people")
    parser.add_argument("--table", type=Path, help="only print the page of this file")
    parser.add_argument("--markdown", type=Path, help="put the tables into this page, between its marks")
    arguments = parser.parse_args()
    if arguments.through == "flower" and arguments.tasks != "digits":
        parser.error("--through flower: accepted: --tasks digits")
    if not arguments.table:
        measure(arguments)
        return 0
    shown = page(rows_of(arguments.table), arguments.markdown)
    if arguments.markdown:
        arguments.markdown.write_text(shown, encoding="utf-8")
    else:
        print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
