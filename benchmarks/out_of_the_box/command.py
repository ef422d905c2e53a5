"""The command: which worlds, requests, methods, seeds and variants; where rows go; the tables."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from out_of_the_box.images import ALL_IMAGES, IMAGE_REQUESTS, build_images, may_tune_on_images
from out_of_the_box.run import CONTROLS, LEFT_OUT, RATES, Cell, Runs
from out_of_the_box.table import claims, page
from out_of_the_box.text_worlds import ALL_TEXT, TEXT_REQUESTS, build_world, may_tune
from out_of_the_box.worlds import World, WorldError

TEXT_METHODS = ("icu", "npo", "grad_diff", "ug_clu")
IMAGE_METHODS = ("ug_clu", "salun", "scrub")
QUICK = ["260k-knowA"]


def parser(description: str) -> argparse.ArgumentParser:
    """All options."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    add("--data", type=Path, help="where llama-stories260k, tofu, cifar10 and the others are")
    add("--cache", type=Path, default=Path(home) / "palimpsest-out-of-the-box", help="keeps bases, worlds and oracles")
    add("--worlds", default="all", help="names joined by commas, or all, tune, show; of images with --images")
    add("--requests", help=f"of {', '.join(TEXT_REQUESTS)}; of images {', '.join(IMAGE_REQUESTS)}; default all")
    add("--methods", help=f"default {','.join((*TEXT_METHODS, *CONTROLS))}; images {','.join(IMAGE_METHODS)} and these")
    add("--seeds", default="0", help="of the runs; the worlds stay as they are")
    add("--variants", default="default", help=f"of {', '.join(LEFT_OUT)}")
    add(
        "--rates",
        default="searched",
        choices=RATES,
        help="what the product does by itself, or the methods' fixed rates",
    )
    add("--images", action="store_true", help="image classifiers instead of language models")
    add("--quick", action="store_true", help=f"{QUICK[0]}, its tenth, nothing learned again")
    add("--build", action="store_true", help="make the worlds and say where they are; no runs")
    add("--json", type=Path, help="append each row to this file; rows that are there are not run again")
    add("--table", type=Path, help="print the tables of such a file; no runs")
    add("--output", type=Path, help="where runs put their models meanwhile; default beside the cache's worlds")
    add("--keep", action="store_true", help="leave the models there")
    return found


def listed(value: str | None, default: Sequence[str], accepted: Sequence[str], option: str) -> list[str]:
    """Names joined by commas.

    Raises:
        WorldError: one is not accepted.
    """
    names = list(default) if value is None else value.split(",")
    unknown = [name for name in names if name not in accepted]
    if unknown:
        raise WorldError(f"{option}: no {unknown[0]!r}; accepted, joined by commas: {', '.join(accepted)}")
    return names


def chosen_worlds(arguments: argparse.Namespace) -> list[str]:
    """The worlds that were asked for."""
    if arguments.quick:
        return QUICK
    every = ALL_IMAGES if arguments.images else ALL_TEXT
    if arguments.worlds == "all":
        return list(every)
    if arguments.worlds in ("tune", "show"):
        may = may_tune_on_images if arguments.images else may_tune
        return [name for name in every if may(name) == (arguments.worlds == "tune")]
    return arguments.worlds.split(",")


def chosen_cells(arguments: argparse.Namespace, world: str) -> Iterator[Cell]:
    """The rows that were asked for of one world."""
    asked, methods = (IMAGE_REQUESTS, IMAGE_METHODS) if arguments.images else (TEXT_REQUESTS, TEXT_METHODS)
    requests = listed("tenth" if arguments.quick else arguments.requests, asked, asked, "--requests")
    every = (*methods, *CONTROLS)
    names = listed(arguments.methods, every, every, "--methods")
    variants = listed(arguments.variants, (), tuple(LEFT_OUT), "--variants")
    seeds = arguments.seeds.split(",")
    if not all(seed.isdecimal() for seed in seeds):
        raise WorldError(f"--seeds: {arguments.seeds!r}; accepted: whole numbers from 0, joined by commas")
    for variant, request, seed, method in product(variants, requests, seeds, names):
        # what stands beside the methods depends on no variant, and two of the three on no seed
        is_needed = variant == "default" and (method == "random_edit" or seed == seeds[0])
        if method not in CONTROLS or is_needed:
            yield Cell(world, request, method, int(seed), variant, arguments.rates)


def read_rows(path: Path | None) -> list[dict[str, Any]]:
    """The rows that are there."""
    if path is None or not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append(path: Path | None, row: dict[str, Any]) -> None:
    """Add a row, whole and flushed: several processes may write to one file."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as stream:
        stream.write((json.dumps(row) + "\n").encode())
        os.fsync(stream.fileno())


def told(row: dict[str, Any]) -> str:
    """A row in a line."""
    cell = "-".join(str(row[name]) for name in asdict(Cell("", "", "")))
    if row.get("error"):
        return f"{cell}: {row['error']}"
    pairs = []
    for name in ("es", "ma", "accuracy", "nats"):
        values = [row["scores"][column]["forget"].get(name) for column in ("before", "after", "oracle")]
        if values[0] is not None:
            pairs.append(f"{name} {values[0]:.2f} -> {values[1]:.2f} ({values[2]:.2f})")
    result = "passed" if row["passed"] else "failed"
    broken = f", broke {' and '.join(row['broken'])}" if row["broken"] else ""
    cost = "" if row.get("cost") is None else f", cost {row['cost']:.2f}, {row['seconds']:.0f} s"
    return f"{cell}: {result}{broken}; forget {', '.join(pairs)}{cost}"


def run_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Make worlds and run what is not there yet; all rows."""
    build = build_images if arguments.images else build_world
    cache = arguments.cache.expanduser().resolve()
    output = arguments.output or cache / f"runs-{os.getpid()}"
    runs = Runs(output, relearn=not arguments.quick, keep=arguments.keep)
    rows = read_rows(arguments.json)
    for name in chosen_worlds(arguments):
        cells = [cell for cell in chosen_cells(arguments, name) if not any(is_row_of(row, cell) for row in rows)]
        if not cells and not arguments.build:
            continue
        started = time.monotonic()
        world: World = build(name, arguments.data.resolve(), cache)
        print(f"{name}: {world.folder} ({time.monotonic() - started:.0f} s)", flush=True)
        for cell in [] if arguments.build else cells:
            row = runs.row(cell, world, rows)
            if row is not None:
                rows.append(row)
                append(arguments.json, row)
                print(told(row), flush=True)
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()
    return rows


def is_row_of(row: dict[str, Any], cell: Cell) -> bool:
    """Is this the row of a cell?"""
    return all(row[name] == value for name, value in asdict(cell).items())


def main(description: str) -> int:
    """Run, print the tables; 1 where a claim does not hold, 2 for wrong usage."""
    arguments = parser(description).parse_args()
    try:
        if arguments.table is not None:
            if not arguments.table.is_file():
                raise WorldError(f"--table: no file {arguments.table}; give one that --json wrote")
            rows = read_rows(arguments.table)
        elif arguments.data is None:
            raise WorldError("--data FOLDER is needed: where llama-stories260k, tofu, cifar10 and the others are")
        else:
            rows = run_all(arguments)
    except WorldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.build:
        return 0
    print(page(rows))
    return 0 if all(holds for _, holds in claims(rows)) else 1
