"""Learners of classes, one task after another: the golden ordering on digits, and what an exact deletion costs.

    python benchmarks/learners.py digits --output docs/results/learners.jsonl
    python benchmarks/learners.py digits --methods simple_cil,fecam --seeds 0 --output rows.jsonl
    python benchmarks/learners.py exact --output docs/results/learners.jsonl
    python benchmarks/learners.py cifar --seeds 0,1,2 --data ../shared/data --output docs/results/learners.jsonl
    python benchmarks/learners.py texts --seeds 0,1,2 --data ../shared/data --output docs/results/learners.jsonl
    python benchmarks/learners.py table --output docs/results/learners.jsonl

    choose   the backbone for digits: of the candidates in BACKBONES the one whose nearest class mean is right most
             often on a fifth of the rows to learn of seed 0, of the means of the others; no row to test is looked at
    digits   scikit-learn's digits in five tasks of two classes; the backbone, the one that was chosen, was trained to
             tell by how many quarters an image was turned, never with a label. Any registered learner can be named;
             "joint" is fine-tuning on all classes at once
    cifar    CIFAR-100 in ten tasks of ten classes, 50 rows of a class to learn and 20 to test, on frozen features of
             the ResNet-56 that was published for CIFAR-10
    texts    DBpedia's 14 topics in seven tasks, 100 rows of a topic to learn and 50 to test, on frozen features of
             MiniLM
    frozen   as digits, but its backbone stays as it is, and the head alone is trained
    exact    after deleting 1, 10 and 200 rows or a class: the largest difference of any logit to a head that never saw
             them, seconds of the deletion and of learning without the rows, bytes of the statistics

A row is written as a line as soon as it is measured; run again, it goes on with what is missing. A_b is the share of
right answers over all classes seen after task b; A-bar their mean, A_B the last; forgetting is the mean over the tasks
but the last of the best accuracy a task ever had less its last.

One rule for the rates, tuned on nothing: what trains all weights takes 1e-3 (AdamW), eight epochs a task, batches of
32; what trains a head alone takes 1e-2 and 20 epochs; a method that adds modules and trains these alone keeps the rate
of its own defaults. Joint training has as many epochs as a task.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from frozen_features import cifar_sets, frozen_resnet, text_sets
from learner_runs import LearnedVersion, after_run, answers_of, memory_of, with_classes
from palimpsest import methods
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.in_words import so_many
from palimpsest.models.loaded import Loaded
from palimpsest.models.resnet import SmallResNet, SmallResNetConfig, resnet_config
from palimpsest.models.scope import Scope

SHOWN = ("finetune", "er", "icarl", "simple_cil", "fecam", "ranpac", "joint")
Tasks = Sequence[Sequence[int]]
TASKS = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
FORMAT = PixelFormat(8, 8, (0.5,) * 3, (0.3,) * 3)
PER_CLASS = 5  # of the memory of a learner that replays
TRAINING = {"learning_rate": 1e-3, "num_train_epochs": 8, "batch_size": 32}
OF_A_HEAD = {"learning_rate": 1e-2, "num_train_epochs": 20, "batch_size": 32}
EXACT = ("simple_cil", "fecam", "ranpac")


def digit_sets(seed: int) -> tuple[ImageSet, ImageSet]:
    """Rows to learn, three quarters, and rows to test, by a draw of the seed; classes in an order of the seed."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images / 16 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    generator = np.random.default_rng(seed)
    place, order = generator.permutation(10), generator.permutation(len(pixels))
    cut = 3 * len(order) // 4
    return tuple(
        ImageSet(
            tuple(f"digit-{n}" for n in rows),
            torch.from_numpy(pixels[rows]),
            torch.from_numpy(place[found.target[rows]]),
            FORMAT,
        )
        for rows in (order[:cut], order[cut:])
    )  # type: ignore[return-value]


def resnet_of(widths: tuple[int, ...]) -> Any:
    """A ResNet-20 for digits, whose features are means over all places."""
    shape = {"widths": widths, "image_size": 8, "image_mean": FORMAT.mean, "image_std": FORMAT.std}
    return SmallResNet(resnet_config("resnet20", 4, **shape))


class PlacedResNet(SmallResNet):
    """A ResNet of one block a stage whose features are those of every place, and no means."""

    def __init__(self, config: SmallResNetConfig) -> None:
        super().__init__(config)
        side = config.image_size // 2 ** (len(config.widths) - 1)
        self.linear = nn.Linear(config.widths[-1] * side**2, config.num_labels)

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> ImageClassifierOutputWithNoAttention:
        """Logits, (B, C)."""
        features_BCHW = F.relu(self.bn1(self.conv1(pixel_values)))
        for stage in range(len(self.config.widths)):
            features_BCHW = self.get_submodule(f"layer{stage + 1}")(features_BCHW)
        return ImageClassifierOutputWithNoAttention(logits=self.linear(features_BCHW.flatten(1)))


class PixelNet(SmallResNet):
    """No backbone: pixels enter the head, of the first of three channels that are alike."""

    def __init__(self, config: SmallResNetConfig) -> None:
        super().__init__(config)
        self.linear = nn.Linear(config.image_size**2, config.num_labels)

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> ImageClassifierOutputWithNoAttention:
        """Logits, (B, C)."""
        return ImageClassifierOutputWithNoAttention(logits=self.linear(pixel_values[:, 0].flatten(1)))


def shallow_of(widths: tuple[int, ...], kind: type[SmallResNet]) -> Any:
    """One block of two convolutions a stage."""
    shape = {"image_size": 8, "image_mean": FORMAT.mean, "image_std": FORMAT.std, "num_channels": 3, "num_labels": 4}
    return kind(SmallResNetConfig(widths=list(widths), depths=[1] * len(widths), **shape))


def vit_of(width: int, layers: int) -> Any:
    """A ViT for digits, in patches of two by two; its token at the front knows of places."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": 2 * width}
    return ViTForImageClassification(
        ViTConfig(**sizes, num_attention_heads=4, image_size=8, patch_size=2, num_labels=4, initializer_range=0.05)
    )


BACKBONES: dict[str, tuple[Callable[[], Any], int]] = {
    "resnet-64": (lambda: resnet_of((16, 32, 64)), 5),
    "resnet-128": (lambda: resnet_of((32, 64, 128)), 5),
    "vit-64": (lambda: vit_of(64, 3), 20),
    "vit-128": (lambda: vit_of(128, 3), 20),
    "shallow-128": (lambda: shallow_of((32, 64, 128), SmallResNet), 5),
    "shallow-512": (lambda: shallow_of((16, 32), PlacedResNet), 5),
    "pixels": (lambda: shallow_of((1,), PixelNet), 1),
}
"""Name, with the width of what enters the head -> how it is made, and passes over the turned rows."""
CHOSEN = "shallow-512"


def backbone(learn: ImageSet, seed: int, folder: Path, name: str = CHOSEN) -> LearnedVersion:
    """One that tells how an image was turned; of the rows to learn, without their labels."""
    torch.manual_seed(seed)
    build, passes = BACKBONES[name]
    model = build()
    turned = ImageSet(
        tuple(f"{i}-{turn}" for turn in range(4) for i in learn.ids),
        torch.cat([torch.rot90(learn.images_NHWC, turn, (1, 2)) for turn in range(4)]),
        torch.arange(4).repeat_interleave(len(learn)),
        FORMAT,
    )
    start = LearnedVersion(Loaded(model, None, "digits", FORMAT), folder / "none")
    training = {**TRAINING, "num_train_epochs": passes, "batch_size": 64, "seed": seed}
    return after_run("finetune", start, {"learn": turned}, training, folder / "rotation")


def of_classes(examples: Any, classes: Sequence[int]) -> Any:
    """Rows of some classes."""
    chosen = torch.isin(examples.label_N, torch.tensor(classes)).tolist()
    return examples.subset([i for i, one in zip(examples.ids, chosen, strict=True) if one])


def names_of(classes: Sequence[int]) -> list[str]:
    """Of classes of the head."""
    return [f"class {label}" for label in classes]


def options_of(method: str, *, faster: bool) -> dict[str, Any]:
    """What is said of a method beside its defaults."""
    fields = methods.card(method).schema.model_fields
    said = {"per_class": PER_CLASS, **({"rows_at_once": 64} if faster else {})}
    return {name: value for name, value in said.items() if name in fields}


@dataclass(frozen=True)
class ClassStream:
    """Classes that come task by task.

    Attributes:
        data: what its rows are called.
        backbone: what its backbone is called.
        sets: rows to learn, and to test; of images or of texts.
        tasks: classes of each.
        head: where the backbone stays as it is, a regular expression of the weights of the head, which alone move.
    """

    data: str
    backbone: str
    sets: tuple[Any, Any]
    tasks: Tasks
    head: str = ""

    @property
    def scope(self) -> Scope | None:
        """Of every run; None = the method's own."""
        return Scope(kind="layers", names=(self.head,)) if self.head else None

    def training(self, method: str, seed: int) -> dict[str, Any]:
        """By the rule above."""
        card = methods.card(method)
        own = {"learning_rate"} if card.adds_parts and not card.moves_all else set()
        kept = {name: value for name, value in (OF_A_HEAD if self.head else TRAINING).items() if name not in own}
        return {**kept, "seed": seed}

    def row(self, method: str, seed: int) -> dict[str, Any]:
        """What a row is of."""
        key = f"{self.data} {self.backbone} {method} {seed}"
        return {"row": key, "data": self.data, "backbone": self.backbone, "method": method, "seed": seed}


def in_tasks(method: str, start: LearnedVersion, stream: ClassStream, seed: int, place: Path) -> dict[str, Any]:
    """Accuracy of every task after every task, and what follows from it; of rows to learn, and to test."""
    learn, test = stream.sets
    version, accuracies, began = start, [], time.perf_counter()
    card = methods.card(method)
    trains = card.moves_all or not card.edits
    replays = "replay" in card.uses and trains and method != "finetune"  # which stands for doing nothing
    memory: list[str] = []
    for number, classes in enumerate(stream.tasks):
        loaded = with_classes(version.loaded, names_of(classes), fresh=number == 0)
        drawn = {"learn": of_classes(learn, classes)}
        if replays and memory:
            drawn["replay"] = learn.subset(memory)
        version = LearnedVersion(loaded, version.folder)
        how, training = options_of(method, faster=True), stream.training(method, seed)
        version = after_run(method, version, drawn, training, place / f"{method}-{number}", scope=stream.scope, **how)
        memory += memory_of(drawn["learn"], drawn["learn"].label_N, PER_CLASS, seed)
        accuracies.append([accuracy(version, of_classes(test, one)) for one in stream.tasks[: number + 1]])
    sizes = [len(of_classes(test, one)) for one in stream.tasks]
    return {
        **scores(accuracies, sizes),
        "seconds": round(time.perf_counter() - began, 1),
        "bytes": version.bytes_beside,
    }


def accuracy(version: LearnedVersion, examples: Any) -> float:
    """Share of right answers, over all classes that the head has."""
    return float((answers_of(version, examples).argmax(-1) == examples.label_N).float().mean())


def scores(accuracies: Sequence[Sequence[float]], sizes: Sequence[int]) -> dict[str, Any]:
    """A-bar, A_B and forgetting, in percent, of a triangle of accuracies: [after task][of task].

    >>> found = scores([[1.0], [0.5, 0.9]], [10, 10])
    >>> found["A_bar"], found["A_B"], found["forgetting"]
    (85.0, 70.0, 50.0)
    """
    curve = [float(np.average(row, weights=sizes[: len(row)])) for row in accuracies]
    last = accuracies[-1]
    lost = [max(row[j] for row in accuracies[j:]) - last[j] for j in range(len(last) - 1)]
    return {
        "A_bar": round(100 * float(np.mean(curve)), 2),
        "A_B": round(100 * curve[-1], 2),
        "forgetting": round(100 * float(np.mean(lost)) if lost else 0.0, 2),
        "curve": [round(100 * one, 2) for one in curve],
    }


def joint(start: LearnedVersion, stream: ClassStream, seed: int, place: Path) -> dict[str, Any]:
    """Fine-tuning on all classes at once."""
    began = time.perf_counter()
    loaded = with_classes(start.loaded, names_of([c for task in stream.tasks for c in task]), fresh=True)
    begin, training = LearnedVersion(loaded, start.folder), stream.training("finetune", seed)
    version = after_run("finetune", begin, {"learn": stream.sets[0]}, training, place / "joint", scope=stream.scope)
    found = 100 * accuracy(version, stream.sets[1])
    return {"A_bar": None, "A_B": round(found, 2), "forgetting": None, "seconds": round(time.perf_counter() - began, 1)}


Begun = Callable[[int, Path], tuple[LearnedVersion, ClassStream]]
"""Of a seed and a folder to write in: where every learner starts, and what it learns."""


def stream_rows(
    begun: Begun, names: tuple[str, str], chosen: Sequence[str], seeds: Sequence[int], done: set[str]
) -> Iterator[dict[str, Any]]:
    """A row for each method and seed that is not there yet; names are those of data and backbone."""
    for seed in seeds:
        missing = [method for method in chosen if f"{' '.join(names)} {method} {seed}" not in done]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            start, stream = begun(seed, Path(folder))
            for method in missing:
                found = (
                    joint(start, stream, seed, Path(folder))
                    if method == "joint"
                    else in_tasks(method, start, stream, seed, Path(folder))
                )
                yield {**stream.row(method, seed), **found}


def digit_stream(name: str, seed: int, place: Path, *, frozen: bool = False) -> tuple[LearnedVersion, ClassStream]:
    """Five tasks of two digits."""
    learn, test = digit_sets(seed)
    start = backbone(learn, seed, place, name)
    if not frozen:
        return start, ClassStream("digits", name, (learn, test), TASKS)
    start = LearnedVersion(frozen_resnet(start.loaded), start.folder)
    return start, ClassStream("digits", f"{name}, frozen", (learn, test), TASKS, head=r"^linear\.")


def cifar_stream(data: Path, seed: int, place: Path) -> tuple[LearnedVersion, ClassStream]:
    """Ten tasks of ten classes."""
    loaded, *sets = cifar_sets(data, seed)
    tasks = [range(first, first + 10) for first in range(0, 100, 10)]
    stream = ClassStream("cifar100", "resnet56 of cifar10, frozen", (sets[0], sets[1]), tasks, head=r"^linear\.")
    return LearnedVersion(loaded, place / "none"), stream


def text_stream(data: Path, seed: int, place: Path) -> tuple[LearnedVersion, ClassStream]:
    """Seven tasks of two topics."""
    loaded, *sets = text_sets(data, seed)
    tasks = [(first, first + 1) for first in range(0, 14, 2)]
    stream = ClassStream("dbpedia", "minilm, frozen", (sets[0], sets[1]), tasks, head=r"^classifier\.")
    return LearnedVersion(loaded, place / "none"), stream


def choice_rows(done: set[str]) -> Iterator[dict[str, Any]]:
    """A row for each candidate: of the rows to learn of seed 0 alone."""
    learn, _test = digit_sets(0)
    cut = 4 * len(learn) // 5
    seen, held = learn.subset(learn.ids[:cut]), learn.subset(learn.ids[cut:])
    for name in (one for one in BACKBONES if f"backbone {one}" not in done):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            start = backbone(seen, 0, Path(folder), name)
            spent = round(time.perf_counter() - began, 1)
            start = LearnedVersion(with_classes(start.loaded, names_of(range(10)), fresh=True), start.folder)
            how = options_of("simple_cil", faster=True)
            version = after_run("simple_cil", start, {"learn": seen}, {"seed": 0}, Path(folder) / "means", **how)
            found = round(100 * accuracy(version, held), 2)
        yield {"row": f"backbone {name}", "data": "digits", "nearest_mean": found, "seconds": spent}


def exact_rows(done: set[str]) -> Iterator[dict[str, Any]]:
    """Deletions on digits, each against a head that never saw the rows."""
    learn, test = digit_sets(0)
    with tempfile.TemporaryDirectory() as folder:
        start = backbone(learn, 0, Path(folder), "resnet-64")
        start = LearnedVersion(with_classes(start.loaded, names_of(range(10)), fresh=True), start.folder)
        for method in (one for one in EXACT if f"exact {one}" not in done):
            yield {
                "row": f"exact {method}",
                "data": "digits",
                "method": method,
                **_deletions(method, start, (learn, test), Path(folder)),
            }


def _deletions(method: str, start: LearnedVersion, sets: tuple[ImageSet, ImageSet], place: Path) -> dict[str, Any]:
    learn, test = sets

    def after(begin: LearnedVersion, name: str, rows: ImageSet) -> tuple[LearnedVersion, float]:
        began = time.process_time()
        made = after_run(method, begin, {name: rows}, {"seed": 0}, place / f"{method}-{name}-{len(rows)}")
        return made, round(time.process_time() - began, 2)

    whole, seconds = after(start, "learn", learn)
    found: dict[str, Any] = {"rows": len(learn), "bytes": whole.bytes_beside, "learn_seconds": seconds, "deletions": {}}
    for name, gone in _requests(learn):
        deleted, spent = after(whole, "forget", learn.subset(gone))
        never, anew = after(start, "learn", learn.subset([i for i in learn.ids if i not in set(gone)]))
        difference = (answers_of(deleted, test) - answers_of(never, test)).abs().max().item()
        found["deletions"][name] = {
            "difference": difference,
            "seconds": spent,
            "anew_seconds": anew,
            "bytes": deleted.bytes_beside,
        }
    return found


def _requests(learn: ImageSet) -> list[tuple[str, list[str]]]:
    some = [(so_many(count, "row"), list(learn.ids[:count])) for count in (1, 10, 200)]
    return [*some, ("a class", list(of_classes(learn, [3]).ids))]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Of all rows that are there, in markdown."""
    lines = ["| backbone for digits | nearest mean on a fifth of the rows to learn | seconds |", "|---|---|---|"]
    for row in (row for row in rows if row["row"].startswith("backbone ")):
        lines.append(f"| {row['row'][9:]} | {row['nearest_mean']:.1f} | {row['seconds']} |")
    lines += [
        "",
        "| data, backbone | learner | seeds | A-bar | A_B | forgetting | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    learned = [row for row in rows if "A_B" in row]
    for place in dict.fromkeys((row["data"], row["backbone"], row["method"]) for row in learned):
        own = [row for row in learned if (row["data"], row["backbone"], row["method"]) == place]
        cells = [_mean(own, key) for key in ("A_bar", "A_B", "forgetting", "seconds")]
        lines.append(f"| {', '.join(place[:2])} | {place[2]} | {len(own)} | {' | '.join(cells)} |")
    lines += [
        "",
        "| exact deletion | deleted | largest difference of a logit | seconds | seconds anew | bytes kept |",
        "|---|---|---|---|---|---|",
    ]
    for row in (row for row in rows if row["row"].startswith("exact ")):
        for name, one in row["deletions"].items():
            cells = [f"{one['difference']:g}", str(one["seconds"]), str(one["anew_seconds"]), f"{one['bytes']:,}"]
            lines.append(f"| {row['method']} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(rows: Sequence[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows if row[key] is not None]
    if not values:
        return "–"
    spread = f" ± {np.std(values):.1f}" if len(values) > 1 and key != "seconds" else ""
    return f"{np.mean(values):.1f}{spread}"


def main(arguments: Sequence[str]) -> int:
    """Measure what is missing, a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("choose", "digits", "frozen", "cifar", "texts", "exact", "table"))
    parser.add_argument("--methods", default=",".join(SHOWN))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument(
        "--data", type=Path, default=Path(), help="where cifar100, cifar10-resnets and cl-text-tasks are"
    )
    parser.add_argument("--backbone", default=CHOSEN, choices=list(BACKBONES), help="of digits and frozen")
    parser.add_argument("--output", type=Path, required=True)
    said = parser.parse_args(arguments)
    there = [json.loads(line) for line in said.output.read_text().splitlines()] if said.output.is_file() else []
    if said.part == "table":
        print(table(there))
        return 0
    done = {row["row"] for row in there}
    chosen, seeds = said.methods.split(","), [int(s) for s in said.seeds.split(",")]
    streams: dict[str, tuple[Begun, tuple[str, str]]] = {
        "digits": (partial(digit_stream, said.backbone), ("digits", said.backbone)),
        "frozen": (partial(digit_stream, said.backbone, frozen=True), ("digits", f"{said.backbone}, frozen")),
        "cifar": (partial(cifar_stream, said.data), ("cifar100", "resnet56 of cifar10, frozen")),
        "texts": (partial(text_stream, said.data), ("dbpedia", "minilm, frozen")),
    }
    measure: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "choose": lambda: choice_rows(done),
        "exact": lambda: exact_rows(done),
        **{name: partial(stream_rows, *one, chosen, seeds, done) for name, one in streams.items()},
    }
    said.output.parent.mkdir(parents=True, exist_ok=True)
    for row in measure[said.part]():
        with said.output.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps({key: value for key, value in row.items() if key != "curve"}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
