"""UG-CLU, its parts and its rivals on streams of images, by `palimpsest bench clu`.

    python benchmarks/image_stream.py cifar --data ../shared/data --output /tmp/images --jobs 2
    python benchmarks/image_stream.py cifar --stream random --data ../shared/data --output /tmp/images --jobs 2
    python benchmarks/image_stream.py cifar --rows ablation --per-class 60 --seeds 0,1,2 ...
    python benchmarks/image_stream.py resnet18 ...
    python benchmarks/image_stream.py tenth ...

Writes the initial model and a bench file, then runs the bench, whose tables it ends with; run again, it goes on.

    digits       MNIST, a ResNet-20 of a quarter of the width from random weights
    cifar        CIFAR-10, the published ResNet-20 from its trained weights, with a new head: it knows no class
    cifar-known  the same with the published head: it and every oracle begin by knowing all ten classes
    resnet18     CIFAR-10, a ResNet-18 from random weights
    tenth        the same, all classes learned at once, a random tenth of the images forgotten

Five tasks of two classes with one head. With the published head an oracle forgets a class by fine-tuning, for as long
as it happens to train, and two of them differ by more than the methods; with a new one it never knew it. The features
have seen every image either way. Methods keep everything that remains as their memory unless --buffer says otherwise.
The options of cifar and cifar-known were chosen on training images of another file and other streams, and so was
UG-CLU's rate of tenth; those of digits on seed 10; resnet18 has those of cifar (docs/ug_clu.md).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palimpsest.models.load import load
from palimpsest.models.resnet import SmallResNet, resnet_config

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = {"batch_size": 32, "side_batch_size": {"retain": 32, "forget": 32, "learn": 32}}
SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "lr_scheduler_type": "cosine", "max_grad_norm": 5.0}
IN_A_FILE, FILES = 500, (0, 2, 3, 1)  # CIFAR-10 images of a class in a file; the options were chosen on file 1
MASK = {"mask_batch": 32, "mask_examples": 64}
Methods = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Of a method its options and its training."""
SPREAD = {"every": 2, "fast_norm": 2.0, "gamma": 0.5}
"""Where single images of known classes are forgotten: many small ascents, each example's ended by its target."""


@dataclass(frozen=True)
class Setting:
    """One line of the table above.

    Attributes:
        per_class: images of a class.
        learning_rate: of learning.
        epochs: of learning.
        oracle_epochs: of the oracle.
        steps: of an unlearn request.
        unlearning_rate: of every method that is given none of its own.
        methods: what differs from ``METHODS``.
        classes_per_task: learned together.
        fine_tuning_rate: of fine-tuning on what stays; None = ``unlearning_rate``.
        oracle_rate: of the oracle; None = ``learning_rate``.
    """

    per_class: int
    learning_rate: float
    epochs: int
    oracle_epochs: int
    steps: int
    unlearning_rate: float
    methods: Methods = field(default_factory=dict)
    classes_per_task: int = 2
    fine_tuning_rate: float | None = None
    oracle_rate: float | None = None


UG_CLU_ON_CIFAR = {"options": {"every": 5, "target": 4.0, "fast_norm": 2.0, "stop_share": 0.4}}
TEACHERS = ("salun", "random_label", "bad_teacher")
"""They teach the forget set something, instead of climbing its loss."""
FASTER = {"sfr_on": {"training": {"learning_rate": 0.06}}}
"""Of 0.01, 0.03 and 0.06 SFR-on and fine-tuning came nearest at 0.06, SalUn at 0.03; of 0.03 and 0.06 UG-CLU at 0.03;
all after learning at 0.02 (docs/log.md)."""
UG_CLU_ON_KNOWN = {"options": {"every": 2, "target": 2.0, "gamma": 0.5}}
UG_CLU_ON_TENTH = {"options": {**SPREAD, "target": 4.0}, "training": {"learning_rate": 0.15}}
"""What is known by heart goes only when the net moves as far as an oracle does."""
SETTINGS: dict[str, Setting] = {
    "digits": Setting(60, 0.05, 40, 40, 60, 0.1, {"ug_clu": {"options": {"target": 4.0, "fast_norm": 1.0}}}),
    "cifar": Setting(
        200, 0.005, 10, 20, 120, 0.03, {"ug_clu": UG_CLU_ON_CIFAR, **FASTER}, fine_tuning_rate=0.06, oracle_rate=0.02
    ),
    "cifar-known": Setting(200, 0.02, 4, 20, 40, 0.03, {"ug_clu": UG_CLU_ON_KNOWN}),
    "resnet18": Setting(20, 0.05, 8, 15, 40, 0.05, {"ug_clu": UG_CLU_ON_CIFAR}),
    "tenth": Setting(50, 0.05, 15, 15, 60, 0.05, {"ug_clu": UG_CLU_ON_TENTH}, 10),
}
METHODS: Methods = {
    "ug_clu": {"options": {"every": 5, "ascent": 500.0, "fast_norm": 1.0, "probes": 0, **MASK}},
    "sfr_on": {"options": {"every": 5, "ascent": 25.0, "fast_norm": 1.0, **MASK}},
    "salun": {"options": {"mask_examples": 128, "mask_batch": 32}},
    "random_label": {},
    "scrub": {"training": {"learning_rate": 0.01}},
    "bad_teacher": {},
    "grad_diff": {"training": {"learning_rate": 0.003}},
}
LOW = {name: {"training": {"learning_rate": 0.003}} for name in TEACHERS}
SINGLE = {"ug_clu": {"options": {"target": 0.3, "fast_norm": 1.0}}, **LOW}
KNOWN_SINGLE = {"ug_clu": {"options": {**SPREAD, "target": 0.1}}, **LOW}
SAMPLES: dict[str, Setting] = {
    "cifar": replace(SETTINGS["cifar"], steps=60, methods=SINGLE, fine_tuning_rate=None),
    "cifar-known": replace(SETTINGS["cifar-known"], methods=KNOWN_SINGLE),
}
"""For random samples of nets whose features have seen every image: the loss of most of them is below 0.3 nats."""
NO_ASCENT = {"options": {"ascent": 0.0}}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "UG-CLU": {"chain": "ug_clu"},
    "ER, UG-CLU": {"chain": "er+ug_clu"},
    "ER, fine-tuning": {"chain": "er+ug_clu", "methods": {"ug_clu": NO_ASCENT}},
    **{f"ER, {name}": {"chain": f"er+{name}"} for name in METHODS if name != "ug_clu"},
}


def parts(clip: float) -> dict[str, dict[str, Any]]:
    """Row -> what it changes of UG-CLU, whose clip this is."""
    return {
        "UG-CLU": {},
        "no mask": {"gamma": 0.0},
        "no coefficients": {"forget_temperature": 0.0},
        "no annealing": {"annealing": "constant", "stop_share": 0.0},
        "no target": {"target": None},
        "no ascent": {"ascent": 0.0},
        "L not in repair": {"learn_in_repair": False},
        "L not in fast": {"learn_in_fast": False},
        "joint": {"every": 1, "fast_norm": clip / 5},
        "slow weights 0.5": {"alpha_s": 0.5},
        "fast step shared": {"fast_optimizer": "shared"},
    }


def initial_model(name: str, data: Path, folder: Path) -> None:
    """The model before the stream."""
    if folder.exists():
        return
    torch.manual_seed(0)
    if name.startswith("cifar"):
        model = load(f"resnet20@{data / 'cifar10-resnets'}").model
        if name == "cifar":
            torch.nn.init.kaiming_normal_(model.linear.weight, nonlinearity="relu")
            torch.nn.init.zeros_(model.linear.bias)
        model.save_pretrained(folder)
    elif name == "digits":
        mnist = {"widths": (4, 8, 16), "image_size": 28, "image_mean": (0.1307,), "image_std": (0.3081,)}
        SmallResNet(resnet_config("resnet20", 10, **mnist)).save_pretrained(folder)  # type: ignore[arg-type]
    else:
        SmallResNet(resnet_config("resnet18", 10, image_mean=MEAN, image_std=STD)).save_pretrained(folder)


def digits(data: Path, folder: Path) -> None:
    """MNIST as npz files whose ids are the positions in the original files."""
    for part in ("train", "test"):
        with np.load(data / "mnist" / f"{part}.npz") as arrays:
            ids = np.array([f"{part}-{index}" for index in arrays["index"]])
            np.savez_compressed(folder / f"{part}.npz", x=arrays["x"], y=arrays["y"], id=ids)


def chosen_rows(arguments: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    """The rows that were asked for."""
    rows: dict[str, Any] = dict(ROWS)
    if setting.fine_tuning_rate is not None:
        plain = {**NO_ASCENT, "training": {"learning_rate": setting.fine_tuning_rate}}
        rows["ER, fine-tuning"] = {"chain": "er+ug_clu", "methods": {"ug_clu": plain}}
    if arguments.rows == "ablation":
        clip = setting.methods["ug_clu"]["options"].get("fast_norm", 1.0)
        changed = parts(clip).items()
        rows = {label: {"chain": "ug_clu", "methods": {"ug_clu": {"options": o}}} for label, o in changed}
    elif arguments.stream == "task-aware":
        rows["CLPU-DER++"] = {"chain": "clpu_der_pp"}
    only = arguments.only.split(";") if arguments.only else list(rows)
    unknown = [label for label in only if label not in rows]
    if unknown:
        raise SystemExit(f"--only: no row {unknown[0]!r}; accepted, joined by ';': {'; '.join(rows)}")
    return {label: rows[label] for label in only}


def merged(*layers: Methods) -> dict[str, Any]:
    """Each method's sections, later layers over earlier ones."""
    result = {}
    for name in METHODS:
        parts = [layer.get(name, {}) for layer in layers]
        result[name] = {
            s: {k: v for part in parts for k, v in part.get(s, {}).items()} for s in ("options", "training")
        }
    return result


def bench_file(data: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All that defines the bench but its seeds."""
    name, settings = arguments.name, SETTINGS | (SAMPLES if arguments.stream == "random" else {})
    setting = settings[name]
    per_class = arguments.per_class or setting.per_class
    train = [data / "cifar10" / f"train_{number}.npz" for number in FILES[: -(-per_class // IN_A_FILE)]]
    test = data / "cifar10" / "test.npz"
    if name == "digits":
        digits(data, folder)
        train, test = [folder / "train.npz"], folder / "test.npz"
    learning = {**SGD, **BATCH, "learning_rate": setting.learning_rate, "num_train_epochs": setting.epochs}
    oracle_rate = setting.learning_rate if setting.oracle_rate is None else setting.oracle_rate
    unlearning = {**SGD, **BATCH, "learning_rate": setting.unlearning_rate, "num_train_epochs": 1000}
    stream = {"kind": arguments.stream, "classes_per_task": setting.classes_per_task}
    return {
        "model": str(folder / "model"),
        "data": [str(path) for path in train],
        "test": str(test),
        "per_class": per_class,
        "stream": stream,
        "buffer": arguments.buffer,
        "rows": chosen_rows(arguments, setting),
        "learning": {"training": learning},
        "oracle": {"training": {"learning_rate": oracle_rate, "num_train_epochs": setting.oracle_epochs}},
        "unlearning": {"training": {**unlearning, "max_steps": setting.steps}},
        "methods": merged(METHODS, setting.methods),
        "limit": 400,
        "twin": "forget",
    }


def main() -> None:
    """Write everything and run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=tuple(SETTINGS))
    parser.add_argument("--data", type=Path, required=True, help="where mnist, cifar10 and cifar10-resnets are")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--stream", help="cross-category (default), random (default of tenth) or task-aware")
    parser.add_argument("--rows", choices=("rivals", "ablation"), default="rivals")
    parser.add_argument("--only", help="some of the rows, e.g. 'UG-CLU;ER, salun'")
    parser.add_argument("--per-class", type=int, help="images of a class")
    parser.add_argument("--buffer", default="all", help="images in the memory")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--jobs", default="1")
    arguments = parser.parse_args()
    arguments.stream = arguments.stream or ("random" if arguments.name == "tenth" else "cross-category")
    folder, data = arguments.output.resolve() / arguments.name, arguments.data.resolve()
    initial_model(arguments.name, data, folder / "model")
    values = bench_file(data, folder, arguments)
    label = f"{arguments.stream}-{arguments.rows}"
    config = folder / f"{label}.json"
    config.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    command = ["bench", "clu", "--config", str(config), "--output", str(folder / label)]
    command += ["--oracles", str(folder / "oracles"), "--seeds", arguments.seeds, "--jobs", arguments.jobs]
    print("palimpsest " + " ".join(command), flush=True)
    raise SystemExit(subprocess.run([sys.executable, "-m", "palimpsest", *command], check=False).returncode)


if __name__ == "__main__":
    main()
