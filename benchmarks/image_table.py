"""All unlearners of images on one table: a class, and a random tenth, beside the oracle and its twin.

    python benchmarks/image_table.py mnist --data ../shared/data --output DIR --json docs/results/images.jsonl
    python benchmarks/image_table.py cifar --data ../shared/data --output DIR --json docs/results/images.jsonl
    python benchmarks/image_table.py --table docs/results/images.jsonl

A small net learns some images by one recipe; a class of them, or a random tenth, is then forgotten by every method,
each given the same files (forget, retain, a holdout) and no other option: those that take steps find rate and end by
the controlled run, those that edit find their strength by the damage on retain. Beside them what was learned from the
same start on what stays (the oracle), the same with other batches (its twin), doing nothing, and noise of the size of
SalUn's edit. Of every row:

    UA    share of the forget images that are told wrong            RA   share of retain that is told right
    TA    of test images right; without those of a class that goes  MIA  share of forget that an attack calls members
    gap   mean over the four of the difference from the oracle's, in points
    s     seconds of the run, all of it, on one thread

    mnist   a ResNet of 8 layers from random weights, 600 digits at half their size, 20 passes
    cifar   the published ResNet-20 with a new head, 600 images, 10 passes; its features have seen every image

Every model is kept in ``--output`` and every row is a line of ``--json``: the same command goes on where it was
stopped, and several may write to one file, each with its seeds or scenarios.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

import palimpsest as pal
from palimpsest.data.read.examples import read_examples
from palimpsest.errors import PalimpsestError
from palimpsest.metrics.per_set.entropy_attack import mia_entropy
from palimpsest.models.class_logits import class_logits
from palimpsest.models.load import load
from palimpsest.models.resnet import SmallResNet, SmallResNetConfig

STEPS = (
    "salun",
    "random_label",
    "boundary_shrink",
    "boundary_expand",
    "amun",
    "unsir",
    "mumis",
    "l1_sparse",
    "scrub",
    "bad_teacher",
    "grad_diff",
    "gradient_ascent",
    "sfr_on",
    "ug_clu",
)
EDITS = ("ssd", "influence", "fisher_forgetting")
TWIN = 1000  # added to the seed
SCENARIOS = ("class", "random")
SHOWN = ("UA", "RA", "TA", "MIA")
SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "lr_scheduler_type": "cosine", "max_grad_norm": 5.0}


@dataclass(frozen=True)
class World:
    """What is learned, and how.

    Attributes:
        per_class: training images of each class.
        held_out: images of each class that are never learned, given to every run as its holdout.
        training: of learning, and of the oracles.
        tested: test images that are measured, the first ones.
        forgotten: the class that goes.
    """

    per_class: int
    held_out: int
    training: Mapping[str, Any]
    tested: int | None = None
    forgotten: int = 3


WORLDS = {
    "mnist": World(60, 20, {**SGD, "learning_rate": 0.05, "batch_size": 32, "num_train_epochs": 20}),
    "cifar": World(60, 20, {**SGD, "learning_rate": 0.02, "batch_size": 32, "num_train_epochs": 10}, tested=1000),
}
FIXED = {"control": {"kind": "none"}, "measuring": {"metrics": ["accuracy"]}, "gates": []}


class Bench:
    """One world and seed, in a folder of its own."""

    def __init__(self, name: str, seed: int, data: Path, output: Path) -> None:
        self.name, self.seed, self.world = name, seed, WORLDS[name]
        self.folder = output / name / str(seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(data)
        self.initial = self.folder / "initial"
        if not self.initial.exists():
            torch.manual_seed(seed)
            _start(name, data).save_pretrained(self.initial)

    def file(self, part: str, scenario: str = "") -> Path:
        """Of a part of the images."""
        return self.folder / f"{scenario}{part}.npz"

    def _write(self, data: Path) -> None:
        """Training images cut by class and at random, a holdout, test images."""
        if self.file("test").exists():
            return
        x, y = _images(self.name, data, "train")
        drawn, ranks, world = np.random.default_rng(self.seed).permutation(len(y)), np.zeros(10, int), self.world
        learned, unseen = [], []
        for place in drawn:
            rank, ranks[y[place]] = ranks[y[place]], ranks[y[place]] + 1
            if rank < world.per_class:
                learned.append(place)
            elif rank < world.per_class + world.held_out:
                unseen.append(place)
        rows, first = np.array(learned), len(learned) // 10
        _save(self.file("learn"), x, y, rows)
        _save(self.file("holdout"), x, y, np.array(unseen))
        gone = y[rows] == world.forgotten
        for scenario, goes in (("class", gone), ("random", np.arange(len(rows)) < first)):
            _save(self.file("forget", scenario), x, y, rows[goes])
            _save(self.file("retain", scenario), x, y, rows[~goes])
        x, y = _images(self.name, data, "test")
        _save(self.file("test"), x, y, np.arange(len(y))[: world.tested])

    def learned(self, name: str, rows: Path, seed: int) -> Path:
        """A net that learned some images from the start of this seed."""
        output = self.folder / name
        if not output.exists():
            plan = {**FIXED, "training": {**self.world.training, "seed": seed}}
            pal.learn(self.initial, rows, output=output, plan=plan)
        return output

    def model(self, scenario: str, row: str) -> Path:
        """The model of a row of the table, made if need be."""
        before = self.learned("learned", self.file("learn"), self.seed)
        if row == "do nothing":
            return before
        if row in ("oracle", "twin"):
            seed = self.seed + (TWIN if row == "twin" else 0)
            return self.learned(f"{scenario}-{row}", self.file("retain", scenario), seed)
        output = self.folder / f"{scenario}-{row.replace(' ', '-')}"
        if not output.exists():
            method, options = row, {}
            if row == "random edit":
                method = "random_edit"
                options = {"norm": _distance(before, self.model(scenario, "salun")), "seed": self.seed}
            if row == "fine-tuning":
                method, options = "l1_sparse", {"gamma": 0.0}
            given = {"retain": self.file("retain", scenario), "holdout": self.file("holdout")}
            plan = {"options": options, "training": {"seed": self.seed}, "measuring": FIXED["measuring"]}
            pal.unlearn(before, self.file("forget", scenario), method=method, output=output, plan=plan, **given)
        return output

    def measured(self, scenario: str, row: str) -> dict[str, Any]:
        """One line: what a model says of all sets."""
        started = time.perf_counter()
        model = self.model(scenario, row)
        seconds = time.perf_counter() - started
        loaded = load(model)
        right, entropy = {}, {}
        for name, path in self.sets(scenario).items():
            right[name], entropy[name] = _told(loaded, path, self.world.forgotten if name == "test" else None, scenario)
        attack = mia_entropy(entropy["retain"], entropy["test"], entropy["forget"])
        values = {"UA": 1 - right["forget"], "RA": right["retain"], "TA": right["test"], "MIA": attack.share}
        return {**{name: round(100 * value, 2) for name, value in values.items()}, "seconds": round(seconds, 1)}

    def sets(self, scenario: str) -> dict[str, Path]:
        """What is measured."""
        cut = {name: self.file(name, scenario) for name in ("forget", "retain")}
        return {**cut, "test": self.file("test")}


def _told(loaded: Any, path: Path, gone: int | None, scenario: str) -> tuple[float, np.ndarray]:
    """Share that is told right, and the entropy of every answer; of test images without those of a class that goes."""
    examples = loaded.family.encode(read_examples(path), loaded, max_length=None, truncate=False, separator="")
    if gone is not None and scenario == "class":
        labels = dict(zip(examples.ids, examples.label_N.tolist(), strict=True))
        examples = examples.subset([i for i in examples.ids if labels[i] != gone])
    logp_NV = class_logits(loaded.model, examples).log_softmax(1)
    entropy_N = -(logp_NV.exp() * logp_NV).sum(1)
    return float((logp_NV.argmax(1) == examples.label_N).double().mean()), entropy_N.double().numpy()


def _distance(one: Path, other: Path) -> float:
    """L2 norm of the difference of all weights, running statistics apart."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    moved = [n for n, t in first.items() if t.is_floating_point() and "running_" not in n]
    return float(sum((first[name] - second[name]).double().square().sum() for name in moved) ** 0.5)


def _start(name: str, data: Path) -> nn.Module:
    """The net before it learned anything."""
    if name == "mnist":
        shape = {"widths": (8, 16, 32), "depths": (1, 1, 1), "num_channels": 1, "image_size": 14}
        return SmallResNet(SmallResNetConfig(num_labels=10, image_mean=(0.1307,), image_std=(0.3081,), **shape))
    model = load(f"resnet20@{data / 'cifar10-resnets'}").model
    nn.init.kaiming_normal_(model.linear.weight, nonlinearity="relu")
    nn.init.zeros_(model.linear.bias)
    return model


def _images(name: str, data: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    folder = data / ("mnist" if name == "mnist" else "cifar10")
    file = f"{part}.npz" if name == "mnist" or part == "test" else "train_0.npz"
    with np.load(folder / file) as arrays:
        x, y = arrays["x"], arrays["y"]
    if name == "mnist":  # the mean of every four pixels
        x = x.reshape(len(x), 14, 2, 14, 2).mean((2, 4)).round().astype(np.uint8)
    return x, y


def _save(path: Path, x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> None:
    ids = np.array([f"{path.stem}-{row}" for row in rows])
    np.savez_compressed(path, x=x[rows], y=y[rows], id=ids)


def rows_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """The tables in Markdown: of each world and scenario means over the seeds, by the gap from the oracle."""
    parts = []
    for world, scenario in dict.fromkeys((line["world"], line["scenario"]) for line in lines):
        own = [line for line in lines if (line["world"], line["scenario"]) == (world, scenario)]
        seeds = sorted({line["seed"] for line in own})
        head = f"\n### {world}, {scenario} ({len(seeds)} seeds)\n\n| row | {' | '.join(SHOWN)} | gap | s |"
        parts += [head, "|---|" + "---:|" * (len(SHOWN) + 2)]
        found = sorted((_row(row, own) for row in dict.fromkeys(line["row"] for line in own)), key=lambda one: one[0])
        parts += [text for _, text in found]
    return "\n".join(parts)


def _row(row: str, lines: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    mine = [line for line in lines if line["row"] == row]
    failed = [line for line in mine if "failed" in line]
    whole = [line for line in mine if "failed" not in line]
    if not whole:
        return float("inf"), f"| {row} | {failed[0]['failed']} |" + " |" * (len(SHOWN) + 1)
    gaps = [gap for line in whole if (gap := gap_of(line, lines)) is not None]
    cells = [f"{mean(line[name] for line in whole):.1f}" for name in SHOWN]
    spread = f"{mean(gaps):.1f} ({min(gaps):.1f} to {max(gaps):.1f})" if gaps else "-"
    note = f" ({len(failed)} failed)" if failed else ""
    seconds = f"{mean(line['seconds'] for line in whole):.0f}"
    return (mean(gaps) if gaps else -1.0), f"| {row}{note} | {' | '.join(cells)} | {spread} | {seconds} |"


def gap_of(line: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean distance from the oracle of the same seed, points; None where that is not there."""
    oracle = [one for one in lines if one["row"] == "oracle" and one["seed"] == line["seed"]]
    return mean(abs(line[name] - oracle[0][name]) for name in SHOWN) if oracle else None


def main() -> None:
    """Read the arguments, make the rows that are missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", nargs="?", choices=list(WORLDS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--rows", help="some of the rows, joined by commas")
    parser.add_argument("--table", type=Path, help="print the tables of a file and end")
    arguments = parser.parse_args()
    if arguments.table:
        print(rows_of(_read(arguments.table)))
        return
    torch.set_num_threads(1)
    rows = ("oracle", "twin", "do nothing", *EDITS, *STEPS, "fine-tuning", "random edit")
    wanted = arguments.rows.split(",") if arguments.rows else rows
    for seed in map(int, arguments.seeds.split(",")):
        bench = Bench(arguments.world, seed, arguments.data, arguments.output)
        for scenario in arguments.scenarios.split(","):
            for row in wanted:
                add(arguments.json, bench, scenario, row)
    print(rows_of(_read(arguments.json)))


def add(path: Path, bench: Bench, scenario: str, row: str) -> None:
    """Measure a row and append its line, unless it is there."""
    key = {"world": bench.name, "seed": bench.seed, "scenario": scenario, "row": row}
    if any(all(line[k] == v for k, v in key.items()) for line in _read(path)):
        return
    try:
        found = bench.measured(scenario, row)
    except PalimpsestError as error:
        found = {"failed": f"{type(error).__name__}: {str(error)[:120]}"}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**key, **found}) + "\n")
    print(json.dumps({**key, **found}), flush=True)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
