"""LRA-NPP on three nets: what goes, what stays, what chance would do, what a probe still finds, what it costs.

    mnist-cnn   two convolutions and a hidden layer of 512, trained here on MNIST
    resnet20    the published CIFAR-10 ResNet-20
    vit         a small ViT of transformers, trained here on MNIST

    python benchmarks/lra_npp.py --data shared/data --json docs/results/lra_npp.jsonl    # goes on where it stopped
    python benchmarks/lra_npp.py --table docs/results/lra_npp.jsonl                      # docs/lra_npp.md

The method is run with no number given. It looks at 36 test images of the class, and at 200 of the others; everything is
measured on training images and on the test images that it did not look at. A row is one net, class and variant. Rates
and epochs of the nets that are trained here are written below, and were not tried out on what is shown.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from palimpsest.audit.linear_probe import probe
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.methods.lra_npp import LRANPP, LRANPPConfig
from palimpsest.metrics.per_set.entropy_attack import fit_balanced
from palimpsest.models.class_samples import entered
from palimpsest.models.custom import CustomConfig, CustomForImageClassification
from palimpsest.models.head_edit import head_of
from palimpsest.models.load import load

CLASSES, LOOKED, KEPT, RANDOM_DRAWS = (1, 3, 9), 36, 200, 5
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "random neurons": {"ranking": "random"},
    "head": {"cut": "head"},
    "columns": {"cut": "columns"},
    "path": {"cut": "path"},
    "from what is predicted": {"source": "predicted"},
    "absolute relevance": {"relevance": "absolute"},
    "gamma rule": {"rule": "gamma"},
    "lowest bias": {"bias": "lowest"},
    "Gaussian noise on the path": {"cut": "path", "noise": "gaussian"},
    "Laplace noise on the path": {"cut": "path", "noise": "laplace"},
}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "lra_npp.md"
EPOCHS = {"mnist-cnn": 3, "vit": 9}  # a ViT knows 92 % of its training images after three
BATCH, RATE = 128, 1e-3  # Adam, of both nets that are trained here


class Net(NamedTuple):
    """A classifier with its images.

    Attributes:
        model: in eval mode.
        train: training images, of which some are measured.
        test: images that it never saw.
        seconds: that training took here; 0 where it was trained elsewhere.
    """

    model: Any
    train: ImageSet
    test: ImageSet
    seconds: float


class DigitNet(nn.Module):
    """The MNIST net of the paper: 32 and 64 filters, pooling, 512 neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.hidden, self.head = nn.Linear(1600, 512), nn.Linear(512, 10)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.features(images_BCHW).flatten(1))))


def images_of(file: Path, prefix: str, limit: int, pixels: PixelFormat) -> ImageSet:
    """The first images of a file."""
    arrays = np.load(file)
    x, y = arrays["x"][:limit], arrays["y"][:limit].astype(np.int64)
    x = x[..., None] if x.ndim == 3 else x
    return ImageSet(tuple(f"{prefix}{n}" for n in range(len(x))), torch.tensor(x), torch.tensor(y), pixels)


def trained(model: Any, data: Path, epochs: int) -> Net:
    """A net that learns MNIST here."""
    pixels = PixelFormat(28, 28, (0.13,), (0.31,))
    train = images_of(data / "mnist" / "train.npz", "train", 20000, pixels)
    test = images_of(data / "mnist" / "test.npz", "test", 1800, pixels)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    started = time.process_time()
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(train), generator=generator).split(BATCH):
            batch = train.batch([train.ids[int(row)] for row in rows])
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pixel_values=batch.images_BCHW).logits, batch.label_B).backward()
            optimizer.step()
    seconds = time.process_time() - started
    return Net(model.eval(), train.subset(train.ids[:4000]), test, seconds)


def mnist_cnn(data: Path) -> Net:
    """Trained here."""
    torch.manual_seed(0)
    facts: dict[str, Any] = {"num_labels": 10, "image_size": [28, 28], "image_mean": [0.13], "image_std": [0.31]}
    return trained(
        CustomForImageClassification(CustomConfig(head="head", **facts), DigitNet()), data, EPOCHS["mnist-cnn"]
    )


def vit(data: Path) -> Net:
    """Trained here: 16 patches, 4 layers, 64 wide."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4}
    shape: dict[str, Any] = {"num_attention_heads": 4, "image_size": 28, "patch_size": 7, "num_channels": 1}
    return trained(ViTForImageClassification(ViTConfig(num_labels=10, **sizes, **shape)), data, EPOCHS["vit"])


def resnet20(data: Path) -> Net:
    """As it was published."""
    loaded = load(f"resnet20@{data / 'cifar10-resnets'}")
    if loaded.pixels is None:
        raise TypeError("a classifier without the format of its images")
    train = images_of(data / "cifar10" / "train_0.npz", "train", 2500, loaded.pixels)
    return Net(loaded.model.eval(), train, images_of(data / "cifar10" / "test.npz", "test", 3000, loaded.pixels), 0.0)


NETS: dict[str, Callable[[Path], Net]] = {"mnist-cnn": mnist_cnn, "resnet20": resnet20, "vit": vit}


class Seen(NamedTuple):
    """What enters the head of a model, and what is right."""

    features: Tensor
    label: Tensor

    def logits(self, model: Any) -> Tensor:
        """By the head as it is."""
        with torch.no_grad():
            return head_of(model, "lra_npp").module(self.features)


def seen(model: Any, images: ImageSet) -> Seen:
    """One pass over all."""
    found = entered(model, head_of(model, "lra_npp").module, images, images.ids)
    return Seen(found.a_SK, found.target_S)


def accuracy(logits: Tensor, label: Tensor, chosen: Tensor) -> float:
    return float((logits.argmax(1) == label)[chosen].float().mean())


def edited(net: Net, label: int, options: dict[str, Any]) -> tuple[Any, LRANPP, float, tuple[str, ...]]:
    """The edited copy, the method, processor seconds, and the test images that were looked at."""
    ids = dict(zip(net.test.ids, net.test.label_N.tolist(), strict=True))
    looked = [i for i, c in ids.items() if c == label][:LOOKED]
    kept = [i for i, c in ids.items() if c != label][:KEPT]
    sets = {"forget": net.test.subset(looked), "retain": net.test.subset(kept)}
    model, method = copy.deepcopy(net.model), LRANPP(LRANPPConfig(**options))
    started = time.process_time()
    method.prepare(model, sets)
    method.edit(model, sets)
    return model, method, time.process_time() - started, (*looked, *kept)


def row_of(net: Net, before: dict[str, Seen], label: int, options: dict[str, Any]) -> dict[str, Any]:
    """What one edit did."""
    model, method, seconds, used = edited(net, label, options)
    after = {name: seen(model, getattr(net, name)) for name in before} if options.get("cut") == "path" else before
    fresh = ~torch.tensor([i in set(used) for i in net.test.ids])
    row: dict[str, Any] = {"seconds": seconds, "neurons": int(method.diagnostics(0.0)["neurons"])}
    row |= {"width": before["test"].features.shape[1], "edges": method.explanation()["neurons"][0]["edges"]}
    for name, allowed in (("train", torch.ones(len(net.train), dtype=torch.bool)), ("test", fresh)):
        for column, states, by in (("before", before, net.model), ("after", after, model)):
            logits, right = states[name].logits(by), states[name].label
            for which, chosen in (("class", right == label), ("others", right != label)):
                row[f"{name} {which} {column}"] = accuracy(logits, right, chosen & allowed)
    for column, states in (("before", before), ("after", after)):
        row[f"probe {column}"] = probed(states["test"], label, fresh)
    return row | forgotten(before, after, (net.model, model), label, fresh)


def probed(state: Seen, label: int, fresh: Tensor) -> dict[str, float] | None:
    """Recall and false alarms of the linear probe on test images that were not looked at."""
    goes, stays = state.features[fresh & (state.label == label)], state.features[fresh & (state.label != label)][:512]
    found = probe(goes.numpy(), stays.numpy(), np.arange(len(goes)) % 2, np.arange(len(stays)) % 2)
    return None if found is None else {"recall": found.recall, "false": found.false}


def forgotten(
    before: dict[str, Seen], after: dict[str, Seen], models: tuple[Any, Any], label: int, fresh: Tensor
) -> dict[str, float]:
    """The paper's Fr and Fs: members of the class against unseen images of it, by outputs and by losses."""
    kinds = {"train": before["train"].label == label, "test": fresh & (before["test"].label == label)}
    said = {
        column: {name: states[name].logits(by)[chosen].double() for name, chosen in kinds.items()}
        for column, states, by in (("before", before, models[0]), ("after", after, models[1]))
    }
    shares = {column: {n: z.softmax(1).numpy() for n, z in sets.items()} for column, sets in said.items()}
    scaler = StandardScaler().fit(np.concatenate([*shares["before"].values()]))
    is_member = np.repeat([1, 0], [len(shares["before"]["train"]), len(shares["before"]["test"])])
    machine = LinearSVC(class_weight="balanced", dual=False).fit(
        scaler.transform(np.concatenate([shares["before"]["train"], shares["before"]["test"]])), is_member
    )
    rate = 1 - float(machine.predict(scaler.transform(shares["after"]["train"])).mean())
    losses = {n: -z.log_softmax(1)[:, label].numpy() for n, z in said["after"].items()}
    rng, few, scores = np.random.default_rng(0), min(map(len, losses.values())), []
    for _ in range(10):
        drawn = {n: rng.permutation(v)[:few] for n, v in losses.items()}
        cut = few * 7 // 10
        w, b = fit_balanced(drawn["train"][:cut], drawn["test"][:cut])
        hits = [(w * drawn["train"][cut:] + b > 0).mean(), (w * drawn["test"][cut:] + b <= 0).mean()]
        scores.append(float(np.mean(hits)))
    return {"forget rate": rate, "forget score": abs(0.5 - float(np.mean(scores)))}


def measure(data: Path, file: Path, only: list[str]) -> None:
    """Rows that are not in the file yet."""
    done = {(row["net"], row["class"], row["variant"], row["draw"]) for row in read(file)}
    for name in only:
        wanted = [key for key in keys(name) if key not in done]
        if not wanted:
            continue
        net = NETS[name](data)
        before = {"train": seen(net.model, net.train), "test": seen(net.model, net.test)}
        for key in wanted:
            _, label, variant, draw = key
            options = VARIANTS[variant] | ({"seed": draw} if draw else {})
            row = {"net": name, "class": label, "variant": variant, "draw": draw, "trained": net.seconds}
            row |= row_of(net, before, label, options)
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def keys(name: str) -> Iterator[tuple[str, int, str, int]]:
    for label in CLASSES:
        for variant in VARIANTS:
            for draw in range(RANDOM_DRAWS if variant == "random neurons" else 1):
                yield name, label, variant, draw


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def mean(rows: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The table of the page."""
    names = ("net", "variant", "neurons", "class, train", "class, test", "others, train", "others, test", "probe")
    yield f"| {' | '.join((*names, 'Fr', 'Fs', 's'))} |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for net in dict.fromkeys(row["net"] for row in rows):
        for variant in ("before", *VARIANTS):
            yield line(net, variant, [r for r in rows if r["net"] == net and variant in (r["variant"], "before")])


def line(net: str, variant: str, rows: list[dict[str, Any]]) -> str:
    """The mean over classes and draws; of the class and of random neurons also the worst."""
    column = "before" if variant == "before" else "after"
    values = [
        f"{mean(rows, f'{name} {which} {column}'):.3f}" for which in ("class", "others") for name in ("train", "test")
    ]
    if variant != "before":
        worst = min if variant == "random neurons" else max
        values[0] += f" ({worst(r['train class after'] for r in rows):.3f})"
    recall = np.mean([r[f"probe {column}"]["recall"] for r in rows])
    if variant == "before":
        return f"| {net} | before | | {' | '.join(values)} | {recall:.3f} | | | |"
    count = f"{mean(rows, 'neurons'):.0f} of {rows[0]['width']}"
    last = f"{mean(rows, 'forget rate'):.2f} | {mean(rows, 'forget score'):.2f} | {mean(rows, 'seconds'):.2f}"
    return f"| | {variant} | {count} | {' | '.join(values)} | {recall:.3f} | {last} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="where mnist, cifar10 and cifar10-resnets are")
    parser.add_argument("--json", type=Path, help="file of rows; one that is there is gone on with")
    parser.add_argument("--only", nargs="*", choices=tuple(NETS), default=list(NETS))
    parser.add_argument("--table", type=Path, help="file of rows to put into the page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table is not None:
        head, mark, _ = PAGE.read_text(encoding="utf-8").partition("<!-- table -->\n")
        PAGE.write_text(head + mark + "\n".join(table(read(arguments.table))) + "\n", encoding="utf-8")
        return 0
    if arguments.data is None or arguments.json is None:
        parser.error("give --data DIR and --json FILE, or --table FILE")
    measure(arguments.data, arguments.json, arguments.only)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
