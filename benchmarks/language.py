"""Every way to make a language model forget, on the same rows: docs/language.md and docs/results/language.jsonl.

    python benchmarks/language.py --data ../shared/data --output DIR --json rows.jsonl [--methods npo,icu] [--seeds 0]
    python benchmarks/language.py --table docs/results/language.jsonl [--markdown docs/language.md]
    python benchmarks/language.py --attacks --data ../shared/data --output DIR --json docs/results/robust.jsonl \
        --worlds people --seeds 0 --methods npo,npo+smooth,npo+harden
    python benchmarks/language.py --attacks --table docs/results/robust.jsonl [--markdown docs/language.md]

``llama-stories260k`` learns the rows of three invented people of knowundo-privacy, and of three invented authors of
TOFU (the worlds knowE and tofuP of ``out_of_the_box``); seed k asks that the k-th of them be forgotten and is the seed
of every run. No constant of the product was chosen on these rows. Each method runs as ``palimpsest unlearn --method
NAME`` with files (forget, retain, holdout, replay, general) and no number: it finds its own rate and stop by the one
rule of step control, or, where it steps at its own schedule or edits once, by its own defaults. Beside each: the same
version calibrated to 95 % of the retain ES of before, and after half of the forgotten rows was taught again, the other
half measured. Rows to compare with: the oracle, which never saw the forget rows, nothing done, and noise as large as
the change that NPO made. Every run is a process of its own, for its peak of memory; whatever is in --output is taken as
it is.

A row may be more than a method (``language_bench/variants.py``): ``npo+smooth`` is NPO with a rule, ``npo+harden`` its
version hardened afterwards. ``--attacks`` looks only at what is forgotten, and at what comes back of one half of the
rows when the other is taught again for 5 and for 20 passes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from language_bench.attacks import attacked
from language_bench.runs import Cell, run_of
from language_bench.table import ATTACKS, COLUMNS, page, rows_of
from language_bench.world import WORLDS, build
from palimpsest import methods

FIRST = ("oracle", "nothing", "npo", "random_edit")  # noise is as large as the change of NPO


def names_of_all() -> list[str]:
    """Rows to compare with, and every method that a causal language model can be asked to forget by."""
    cards = [methods.card(name) for name in methods.names()]
    fit = [card.name for card in cards if "unlearn" in card.kinds and "text" in methods.works_on(card)]
    return [*FIRST, *(name for name in fit if name not in (*FIRST, "retrain"))]


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """All that is asked for, in an order in which each finds what it stands beside."""
    names = arguments.methods.split(",") if arguments.methods else names_of_all()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    worlds = arguments.worlds.split(",")
    places = [p for world in worlds for p in build(world, seeds, arguments.data.resolve(), arguments.output.resolve())]
    return [Cell(place, name) for place in sorted(places, key=lambda place: place.seed) for name in names]


def add(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows, in one move."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="where llama-stories260k, knowundo-privacy and tofu are")
    parser.add_argument("--output", type=Path, help="keeps worlds and runs")
    parser.add_argument("--json", type=Path, help="one line per row; lines that are there are not measured again")
    parser.add_argument("--methods", help="names joined by commas; default: all")
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--attacks", action="store_true", help="only what is forgotten, and what comes back")
    parser.add_argument("--table", type=Path, help="only print the page of this file")
    parser.add_argument("--markdown", type=Path, help="put the tables into this page, between its marks")
    arguments = parser.parse_args()
    if arguments.table:
        columns = ATTACKS if arguments.attacks else COLUMNS
        print(page(rows_of(arguments.table), arguments.markdown, columns))
        return 0
    rows = rows_of(arguments.json)
    known = {(row["world"], row["seed"], row["method"]): row for row in rows}
    wanted = [cell for cell in cells(arguments) if (cell.place.world, cell.place.seed, cell.name) not in known]
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), max_tasks_per_child=1) as pool:
        for row in pool.map(attacked if arguments.attacks else run_of, wanted):
            print(json.dumps(row), flush=True)
            known[row["world"], row["seed"], row["method"]] = row
            add(arguments.json, known.values())
    return 0


if __name__ == "__main__":
    sys.exit(main())
