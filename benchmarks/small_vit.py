"""Prompt learners on a small ViT that is trained on the spot, beside what its frozen features can do without prompts.

    python benchmarks/small_vit.py --data ../shared/data/mnist --output /tmp/small-vit --seeds 0,1,2
    python benchmarks/small_vit.py --table docs/results/prompts.jsonl

The backbone (patches of 7, width 64, five blocks) learns to tell by how many quarter turns MNIST digits were turned,
and sees no class. Then five tasks of two classes follow each other, by `palimpsest learn --head grow`, each method at
its own defaults; no rate was chosen on what is shown. A row is one task of one method: accuracy on a hundred test
images of every class seen so far. Rows that are there are not made again; the versions lie in --output.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

METHODS_HERE = Path(__file__).with_suffix("").parent / "small_vit_methods"

TASKS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
PER_CLASS, TESTED, PRETRAINED = 200, 100, 4000
SAME = {"learning_rate": 1e-3, "num_train_epochs": 20.0, "batch_size": 16, "lr_scheduler_type": "cosine"}
"""Of what has no defaults for frozen features: those of coda_prompt."""
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "finetune": ("finetune", {"training": SAME, "control": {"kind": "none"}}),
    "head_alone": ("head_alone", {"training": SAME}),
    "simple_cil": ("simple_cil", {}),
    "l2p": ("l2p", {}),
    "dual_prompt": ("dual_prompt", {}),
    "coda_prompt": ("coda_prompt", {}),
}
JOINT = {"head_alone, joint": "head_alone", "coda_prompt, joint": "coda_prompt"}


def digits(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and classes."""
    with np.load(data / f"{name}.npz") as file:
        return file["x"], file["y"]


def new_vit(seed: int) -> Any:
    """Of random weights, with a head for four turns."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(seed)
    sizes = {"hidden_size": 64, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 128}
    config = ViTConfig(**sizes, image_size=28, patch_size=7, num_channels=1, num_labels=4)
    config.image_mean, config.image_std = [0.5], [0.5]
    return ViTForImageClassification(config)


def pretrain(images_NHW: np.ndarray, seed: int, folder: Path, epochs: int = 5) -> None:
    """Tell how far an image was turned; written to a folder, the head and all."""
    model = new_vit(seed)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.from_numpy(images_NHW).float()[:, None] / 127.5 - 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    steps = epochs * (len(pixels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randint(len(pixels), (64,), generator=generator)
        loss = F.cross_entropy(model(pixel_values=turned(pixels[rows])).logits, torch.arange(4).repeat_interleave(64))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"  pre-training {step}/{steps}: {loss.item():.3f}", flush=True)
    model.eval().save_pretrained(folder)


def turned(images_BCHW: Tensor) -> Tensor:
    """All four turns of each, one turn after the other."""
    return torch.cat([torch.rot90(images_BCHW, turns, (2, 3)) for turns in range(4)])


def put(file: Path, images: np.ndarray, labels: np.ndarray, classes: Sequence[int], per_class: int) -> Path:
    """So many images of each class, in turn, as a file that palimpsest reads."""
    rows = np.stack([np.flatnonzero(labels == c)[:per_class] for c in classes], 1).ravel()
    np.savez(file, x=images[rows][..., None], y=labels[rows], name=np.array([f"{file.stem}-{row}" for row in rows]))
    return file


def accuracies(version: Path, data: Path, classes: Sequence[int]) -> dict[str, float]:
    """Class -> share of its test images that are told right, all classes of the head in question."""
    from palimpsest.models.load import load

    loaded = load(version)
    images, labels = digits(data, "test")
    found = {}
    for label in classes:
        chosen = torch.from_numpy(images[labels == label][:TESTED]).float()[:, None] / 127.5 - 1
        with torch.no_grad():
            said = loaded.model(pixel_values=chosen).logits.argmax(1)
        found[str(label)] = float((said == loaded.class_names[str(label)]).float().mean())
    return found


def run_row(arguments: argparse.Namespace, seed: int, method: str, task: int) -> dict[str, Any]:
    """One task: learned on what the tasks before it left, then measured on all classes so far."""
    import palimpsest as pal

    place = Path(arguments.output) / f"seed-{seed}"
    joint = method in JOINT
    name, plan = METHODS[JOINT.get(method, method)]
    before = place / "base" if task == 0 or joint else place / f"{method}-{task - 1}"
    learned = place / (f"{method}-{task}".replace(", ", "-"))
    classes = [label for group in TASKS[: task + 1] for label in group]
    images, labels = digits(Path(arguments.data), "train")
    here = classes if joint else TASKS[task]
    rows = put(place / f"{'joint' if joint else task}.npz", images, labels, here, PER_CLASS)
    began = time.perf_counter()
    head = "new" if task == 0 or joint else "grow"
    training = {**plan.get("training", {}), "seed": seed}
    pal.learn(before, rows, output=learned, method=name, head=head, plan={**plan, "training": training})
    seconds = round(time.perf_counter() - began, 1)
    right = accuracies(learned, Path(arguments.data), classes)
    return {"seed": seed, "method": method, "task": task, "seconds": seconds, "right": right}


def wanted(seeds: Sequence[int], names: Sequence[str]) -> list[tuple[int, str, int]]:
    """Rows in the order in which they are made."""
    return [
        (seed, name, task)
        for seed in seeds
        for name in names
        for task in ([len(TASKS) - 1] if name in JOINT else range(len(TASKS)))
    ]


def read(file: Path) -> list[dict[str, Any]]:
    """The rows that are there."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def summary(rows: Sequence[Mapping[str, Any]], method: str) -> list[tuple[float, float, float]]:
    """Of each seed with all its tasks: mean accuracy over tasks, that at the end, forgetting; in percent."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        tasks = {row["task"]: row["right"] for row in rows if (row["method"], row["seed"]) == (method, seed)}
        if len(TASKS) - 1 not in tasks:
            continue
        seen = [100 * statistics.fmean(right.values()) for _, right in sorted(tasks.items())]
        matrix = [by_task(right) for _, right in sorted(tasks.items())]
        lost = [100 * (max(line[j] for line in matrix) - matrix[-1][j]) for j in range(len(TASKS) - 1)]
        found.append((statistics.fmean(seen), seen[-1], statistics.fmean(lost)))
    return found


def by_task(right: Mapping[str, float]) -> list[float]:
    """Accuracy of each task, 0 of those that are still to come."""
    return [statistics.fmean(right[str(c)] for c in group) if str(group[0]) in right else 0.0 for group in TASKS]


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown: a method a line, means over seeds with the smallest and largest last accuracy."""
    lines = [
        "| method | Ā | A_B (smallest – largest) | forgetting | seconds a task | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for method in [*METHODS, *JOINT]:
        found = summary(rows, method)
        if not found:
            continue
        mean, last, lost = (statistics.fmean(column) for column in zip(*found, strict=True))
        spread = f"{min(f[1] for f in found):.1f} – {max(f[1] for f in found):.1f}"
        seconds = statistics.fmean(row["seconds"] for row in rows if row["method"] == method)
        shown = ("–", "–") if method in JOINT else (f"{mean:.1f}", f"{lost:.1f}")
        lines.append(f"| {method} | {shown[0]} | {last:.1f} ({spread}) | {shown[1]} | {seconds:.0f} | {len(found)} |")
    return lines


def main() -> None:
    """Make the rows that are missing, then print the table, which docs/prompts.md has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/mnist")
    parser.add_argument("--output", default="small-vit")
    parser.add_argument("--json", default="docs/results/prompts.jsonl")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--joint", action="store_true")
    parser.add_argument("--table", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.table:
        print("\n".join(table(read(Path(arguments.table)))))
        return
    os.environ.setdefault("PALIMPSEST_METHODS", str(METHODS_HERE))
    torch.set_num_threads(1)
    names = [name for name in arguments.methods.split(",") if name] + (list(JOINT) if arguments.joint else [])
    file = Path(arguments.json)
    for seed, method, task in wanted([int(s) for s in arguments.seeds.split(",")], names):
        base = Path(arguments.output) / f"seed-{seed}" / "base"
        if not (base / "model.safetensors").is_file():
            base.parent.mkdir(parents=True, exist_ok=True)
            pretrain(digits(Path(arguments.data), "train")[0][-PRETRAINED:], seed, base)
        if any((r["seed"], r["method"], r["task"]) == (seed, method, task) for r in read(file)):
            continue
        row = run_row(arguments, seed, method, task)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
        print(row, flush=True)
    print("\n".join(table(read(file))))


if __name__ == "__main__":
    main()
