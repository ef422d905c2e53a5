"""Every way to take a client out of a federation: docs/federated.md and docs/results/federated.jsonl.

    python benchmarks/federated.py --json rows.jsonl [--tasks digits] [--seeds 0,1]
    python benchmarks/federated.py --json rows.jsonl --tasks people --data ../shared/data --output DIR
    python benchmarks/federated.py --table docs/results/federated.jsonl [--markdown docs/federated.md]

digits: five clients share the digits of scikit-learn, and one of them has put a backdoor in; 20 rounds of 2 epochs
(``federated_bench/digits.py``). people: three clients teach ``llama-stories260k`` what they know of two people each, by
LoRA (``federated_bench/people.py``). Rows that are in --json are not made again. Seconds are of this process's CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from federated_bench.table import page, rows_of


def digits_of(seed: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows of a seed."""
    from federated_bench.digits import rows_of_seed

    return iter(rows_of_seed(seed))


TASKS: Mapping[str, Callable[[int, argparse.Namespace], Iterator[dict[str, Any]]]] = {"digits": digits_of}


def measure(arguments: argparse.Namespace) -> Sequence[Mapping[str, Any]]:
    """The rows that are asked for and are not there yet, each seed of a task at once; written as they come."""
    import torch

    torch.set_num_threads(1)
    rows = list(rows_of(arguments.json))
    for task in arguments.tasks.split(","):
        for seed in map(int, arguments.seeds.split(",")):
            if not any((row["task"], row["seed"]) == (task, seed) for row in rows):
                rows += TASKS[task](seed, arguments)
                whole = arguments.json.with_suffix(".new")
                whole.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
                whole.replace(arguments.json)
                print(task, seed, flush=True)
    return rows


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="one line per row; seeds that are there are not measured again")
    parser.add_argument("--tasks", default="digits")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--data", type=Path, help="where llama-stories260k and knowundo-privacy are")
    parser.add_argument("--output", type=Path, help="keeps the federations of people")
    parser.add_argument("--table", type=Path, help="only print the page of this file")
    parser.add_argument("--markdown", type=Path, help="put the tables into this page, between its marks")
    arguments = parser.parse_args()
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
