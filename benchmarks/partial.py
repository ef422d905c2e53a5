"""Layer-wise partial unlearning on digits and on CIFAR-10: what a share of every layer's updates is worth.

    python benchmarks/partial.py mnist --data ../shared/data --output /tmp/partial [--seeds 5,6,7,8,9]
    python benchmarks/partial.py cifar --data ../shared/data --output /tmp/partial

A small network learns ten classes while its steps are logged (`--record deltas`); then one class is forgotten:

    log      the logged steps that met the class are taken back, all of each (`keep` 1) or the largest entries of it;
             beside it a model that never saw the class, doing nothing, and noise of the size of the 5 % edit
    masks    wrong labels, or ascent, on the class alone, by all weights or by a tenth of every tensor

Masked rows are compared at equal forgetting: each runs for the fewest steps, found by doubling and halving, at which
the class is right for at most 5 % of its training images. Accuracies are of test images, means over the seeds with
their range and number. ``cifar`` starts from the published ResNet-20 with a new head, ``mnist`` trains a small CNN from
random weights. How classes, batches and rates were chosen, and why seeds 5 to 9 are shown: docs/partial.md. Every run
is kept in ``--output``, and the same command goes on where it was stopped. Exit code 1 where a claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import palimpsest as pal
from palimpsest.errors import DivergedError
from palimpsest.models.at_hand import at_hand
from palimpsest.models.load import load

MOST_RIGHT, MOST_STEPS = 0.05, 512
KEEPS = (1.0, 0.05, 0.01)
RULES: Mapping[str, list[dict[str, Any]]] = {
    "all weights": [],
    "random 10 %": [{"kind": "partial", "rule": "random", "keep": 0.1}],
    "cyclic 10 %": [{"kind": "partial", "rule": "cyclic", "keep": 0.1}],
    "top 10 %": [{"kind": "partial", "rule": "topk", "keep": 0.1}],
}
SGD = {"optimizer": "sgd", "momentum": 0.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
FIXED = {"control": {"kind": "none"}, "measuring": {"metrics": ["accuracy"]}, "gates": []}


@dataclass(frozen=True)
class World:
    """How a net learns and what it forgets.

    Attributes:
        forgotten: the class.
        logged: options of learning for the log.
        learned: options of learning for the masks.
        rates: masked method -> its learning rate, with and without a mask.
        per_class: training images of each class.
    """

    forgotten: int
    logged: Mapping[str, float]
    learned: Mapping[str, float]
    rates: Mapping[str, float]
    per_class: int = 100


_COARSE = {"learning_rate": 0.2, "batch_size": 20, "num_train_epochs": 3}
WORLDS = {
    "mnist": World(
        3,
        {"learning_rate": 0.1, "batch_size": 32, "num_train_epochs": 10},
        {"learning_rate": 0.05, "batch_size": 16, "num_train_epochs": 10},
        {"random_label": 0.1, "gradient_ascent": 0.1},
    ),
    "cifar": World(5, _COARSE, _COARSE, {"random_label": 0.05, "gradient_ascent": 0.02}),
}
WEIGHTS = "model.safetensors"
_OF_A_MODEL = ("config.json", "preprocessor_config.json")
OPTIONS = {"random_label": {"retain_weight": 0.0}, "gradient_ascent": {}}
"""Nothing of what stays is looked at, so that only the choice of weights keeps it."""


@dataclass(frozen=True)
class Sets:
    """Files of one seed: training images of the class and of the others, and test images of both."""

    forget: Path
    retain: Path
    test_forget: Path
    test_retain: Path


@dataclass(frozen=True)
class Accuracy:
    """Shares that are right."""

    forget: float
    retain: float


class Bench:
    """One world and seed, in a folder of its own."""

    def __init__(self, name: str, seed: int, data: Path, output: Path, rate: float | None = None) -> None:
        self.world, self.seed, self.folder = WORLDS[name], seed, output / name / str(seed)
        self.rates = {method: rate or usual for method, usual in self.world.rates.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sets = self._written(name, data)
        self.initial = self.folder / "initial"
        torch.manual_seed(seed)
        start = _cnn() if name == "mnist" else _new_head(data)
        self.held = {"model": start} if name == "mnist" else {}
        self.start = pal.Model.of(start, **MNIST) if name == "mnist" else str(self.initial)
        if name != "mnist" and not self.initial.exists():
            start.save_pretrained(self.initial)

    def _written(self, name: str, data: Path) -> Sets:
        paths = Sets(*(self.folder / f"{part}.npz" for part in ("forget", "retain", "test-forget", "test-retain")))
        train, test = _arrays(name, data, "train"), _arrays(name, data, "test")
        drawn = np.random.default_rng(self.seed).permutation(len(train[1]))
        ranks = {c: 0 for c in range(10)}
        chosen = [i for i in drawn if _next(ranks, int(train[1][i])) < self.world.per_class]
        for path, (x, y), places, wanted in (
            (paths.forget, train, np.array(chosen), True),
            (paths.retain, train, np.array(chosen), False),
            (paths.test_forget, test, np.arange(len(test[1])), True),
            (paths.test_retain, test, np.arange(len(test[1])), False),
        ):
            of_it = places[(y[places] == self.world.forgotten) == wanted]
            ids = np.array([f"{path.stem}-{i}" for i in of_it])
            if not path.exists():
                np.savez_compressed(path, x=x[of_it], y=y[of_it], id=ids)
        return paths

    def training(self, **more: Any) -> dict[str, Any]:
        """Options of a run, with the seed of this bench."""
        return {**SGD, "seed": self.seed, "batch_size": 32, **more}

    def learned(self, name: str, options: Mapping[str, float], keep: float | None = None) -> Path:
        """A net that learned, with its log where something is kept; "never" has not seen the class."""
        output = self.folder / name
        if not output.exists():
            rows = [self.sets.retain] if name == "never" else [self.sets.forget, self.sets.retain]
            plan: dict[str, Any] = {**FIXED, "training": self.training(**options)}
            if keep is not None:
                plan |= {"record": ["deltas"], "rules": [{"kind": "deltas", "keep": keep}]}
            pal.learn(self.start, _together(rows, self.folder), output=output, plan=plan)
        return output

    def logged(self, keep: float) -> Path:
        """The net that was logged; it is the same whatever is kept."""
        return self.learned(f"logged-{keep}", self.world.logged, keep)

    def taken_back(self, keep: float) -> Path:
        """The log of the class subtracted."""
        output = self.folder / f"amnesiac-{keep}"
        if not output.exists():
            plan = {**FIXED, "training": self.training()}
            pal.unlearn(str(self.logged(keep)), self.sets.forget, method="amnesiac", output=output, plan=plan)
        return output

    def shaken(self, keep: float) -> Path:
        """Instead of subtracting: normal noise, in every tensor as long as what was subtracted."""
        output = self.folder / f"noise-{keep}"
        if not output.exists():
            before, after = (load_file(model / WEIGHTS) for model in (self.logged(keep), self.taken_back(keep)))
            drawing = torch.Generator().manual_seed(self.seed)
            for name, was in before.items():
                if was.is_floating_point():
                    noise = torch.randn(was.shape, generator=drawing)
                    before[name] = was + noise * ((after[name] - was).norm() / noise.norm())
            output.mkdir()
            for file in [path for path in map(self.logged(keep).joinpath, _OF_A_MODEL) if path.exists()]:
                shutil.copyfile(file, output / file.name)
            save_file(before, output / WEIGHTS, metadata={"format": "pt"})
        return output

    def masked(self, method: str, rule: str, steps: int) -> Path:
        """So many steps on the class alone."""
        output = self.folder / f"{method}-{self.rates[method]:g}-{rule}-{steps}".replace(" ", "").replace("%", "")
        if not output.exists():
            training = self.training(learning_rate=self.rates[method], max_steps=steps, side_batch_size=8)
            options = {"options": OPTIONS[method]}
            plan = {**FIXED, "training": training, "rules": RULES[rule], **options}
            given = {"retain": self.sets.retain} if method == "random_label" else {}
            pal.unlearn(
                str(self.learned("learned", self.world.learned)),
                self.sets.forget,
                method=method,
                output=output,
                plan=plan,
                **given,  # type: ignore[arg-type]
            )
        return output

    def fewest(self, method: str, rule: str) -> tuple[int, Path] | None:
        """The fewest steps at which the class is right for at most 5 % of its training images; None = not in 512."""
        enough, low = 1, 0
        while not self._gone(method, rule, enough):
            low, enough = enough, 2 * enough
            if enough > MOST_STEPS:
                return None
        while enough - low > max(1, low // 8):
            middle = (low + enough) // 2
            low, enough = (low, middle) if self._gone(method, rule, middle) else (middle, enough)
        try:
            return enough, self.masked(method, rule, enough)
        except DivergedError:
            return None

    def _gone(self, method: str, rule: str, steps: int) -> bool:
        """A run that diverges is past the point, too."""
        try:
            self.masked(method, rule, steps)
        except DivergedError:
            return True
        return self._right(self.masked(method, rule, steps), self.sets.forget) <= MOST_RIGHT

    def tested(self, model: Path) -> Accuracy:
        """On test images."""
        return Accuracy(self._right(model, self.sets.test_forget), self._right(model, self.sets.test_retain))

    def _right(self, model: Path, rows: Path) -> float:
        known = model / f"accuracy-{rows.stem}.txt"
        beside = self.folder / f"{model.name}.{known.name}"
        if not beside.exists():
            found = pal.measure(str(model), rows, metrics=["accuracy"])
            beside.write_text(str(found.scores["accuracy"].value), encoding="utf-8")
        return float(beside.read_text(encoding="utf-8"))


def _next(ranks: dict[int, int], label: int) -> int:
    ranks[label] += 1
    return ranks[label] - 1


def _arrays(name: str, data: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "mnist":
        file = data / "mnist" / f"{part}.npz"
    else:
        file = data / "cifar10" / ("train_0.npz" if part == "train" else "test.npz")
    with np.load(file) as arrays:
        return arrays["x"], arrays["y"]


MNIST: dict[str, Any] = {"num_outputs": 10, "image_size": (28, 28), "image_mean": (0.1307,), "image_std": (0.3081,)}


def _cnn() -> nn.Module:
    """Two convolutions and two linear layers, 105,866 weights; no normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def _new_head(data: Path) -> Any:
    """The published ResNet-20 with a head that knows nothing."""
    model = load(f"resnet20@{data / 'cifar10-resnets'}").model
    torch.nn.init.kaiming_normal_(model.linear.weight, nonlinearity="relu")
    torch.nn.init.zeros_(model.linear.bias)
    return model


def _together(rows: Sequence[Path], folder: Path) -> Path:
    """One file with the rows of several."""
    output = folder / ("+".join(path.stem for path in rows) + ".npz")
    if not output.exists():
        parts = [np.load(path) for path in rows]
        np.savez_compressed(output, **{key: np.concatenate([part[key] for part in parts]) for key in ("x", "y", "id")})
    return output


def log_bytes(model: Path) -> int:
    """Of the delta log beside a model."""
    return sum(path.stat().st_size for path in (model / "companion" / "deltas").rglob("*") if path.is_file())


def _row(bench: Bench, name: str, model: Path, **more: float) -> dict[str, Any]:
    found = bench.tested(model)
    return {"row": name, "forget": found.forget, "retain": found.retain, **more}


def rows_of_log(bench: Bench) -> Iterator[dict[str, Any]]:
    """What is left once the log of the class is subtracted."""
    row = partial(_row, bench)
    yield row("log: do nothing", bench.logged(KEEPS[0]))
    yield row("log: retrained", bench.learned("never", bench.world.logged))
    for keep in KEEPS:
        yield row(f"log {keep:.0%}", bench.taken_back(keep), bytes=log_bytes(bench.logged(keep)))
    yield row("log: noise as large as 5%", bench.shaken(0.05))


def rows_of_masks(bench: Bench) -> Iterator[dict[str, Any]]:
    """What is left once the class is gone by steps on it alone."""
    row = partial(_row, bench)
    yield row("masks: do nothing", bench.learned("learned", bench.world.learned))
    for method in bench.world.rates:
        for rule in RULES:
            ended = bench.fewest(method, rule)
            if ended is None:
                yield {"row": f"{method}, {rule}", "steps": None}
                continue
            yield row(f"{method}, {rule}", ended[1], steps=ended[0])


PARTS = {"log": rows_of_log, "masks": rows_of_masks}


def table(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[int, float]]]:
    """Row -> column -> seed -> value; a seed that did not get there is missing."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        columns = found.setdefault(row["row"], {})
        for column in ("forget", "retain", "bytes", "steps"):
            if row.get(column) is not None:
                columns.setdefault(column, {})[row["seed"]] = row[column]
    return found


def claims(found: Mapping[str, Mapping[str, Mapping[int, float]]]) -> Iterator[tuple[str, bool]]:
    """What the issue of this benchmark asks, and whether it holds for the means."""

    def mean(row: str, column: str) -> float:
        values = found.get(row, {}).get(column, {}).values()
        return statistics.mean(values) if values else float("nan")

    if "log 5%" in found:
        times = mean("log 5%", "retain") / mean("log 100%", "retain")
        gone = max(found["log 5%"]["forget"].values())
        words = f"5 % of the log keeps {times:.1f} times what all of it keeps (3)"
        yield f"{words}, and at most {gone:.1%} of the class (5 %)", times >= 3 and gone <= MOST_RIGHT
        share = mean("log 5%", "bytes") / mean("log 100%", "bytes")
        yield f"in {share:.3f} of its bytes (0.05 and the headers)", share <= 0.06
    for method in ("random_label", "gradient_ascent") if "masks: do nothing" in found else ():
        full = found.get(f"{method}, all weights", {})
        for rule in ("random 10 %", "cyclic 10 %"):
            own = found.get(f"{method}, {rule}", {})
            ended = sorted(full.get("retain", {}).keys() & own.get("retain", {}).keys())
            lost = len(found["masks: do nothing"]["retain"]) - len(ended)
            more = statistics.mean([own["retain"][s] - full["retain"][s] for s in ended]) if ended else float("nan")
            words = f"{method}, {rule}: {100 * more:+.1f} points beside all weights (10), seed by seed"
            yield f"{words}; {lost} seeds did not get there (0)", more >= 0.1 and not lost


def main() -> None:
    """All seeds of one world, the table, and the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=tuple(WORLDS))
    parser.add_argument("--data", type=Path, required=True, help="where mnist, cifar10 and cifar10-resnets are")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", default="5,6,7,8,9")
    parser.add_argument("--rate", type=float, help="of the masked steps, instead of those chosen")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=[*PARTS])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in map(int, arguments.seeds.split(",")):
        bench = Bench(arguments.name, seed, arguments.data.resolve(), arguments.output.resolve(), arguments.rate)
        with at_hand(bench.held):
            for part in arguments.parts:
                for row in PARTS[part](bench):
                    rows.append({"seed": seed, **row})
                    print(json.dumps(rows[-1]), flush=True)
    found = table(rows)
    print(f"\n{'row':36}{'forget':>24}{'retain':>24}{'steps or bytes':>18}")
    for row, columns in found.items():
        cells = [_cell([*columns.get(column, {}).values()]) for column in ("forget", "retain")]
        last = [*(columns.get("steps") or columns.get("bytes") or {}).values()]
        print(f"{row:36}{cells[0]:>24}{cells[1]:>24}{statistics.mean(last) if last else 0:18,.0f}")
    held = list(claims(found))
    for words, holds in held:
        print(f"{'holds' if holds else 'MISSED'}: {words}")
    raise SystemExit(0 if all(holds for _, holds in held) else 1)


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f}) {len(values)}" if values else "-"


if __name__ == "__main__":
    main()
