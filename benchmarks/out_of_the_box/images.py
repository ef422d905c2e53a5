"""Worlds of images: small classifiers that were taught some classes, a class or a tenth to forget, and an oracle each.

    resnet20   the published CIFAR-10 ResNet-20 with a new head learns 20 classes of CIFAR-100, 100 images each
    vit        a small vision transformer from random weights learns 300 images of each class of CIFAR-10

Both know their images by heart in the end, and the classes of unseen ones half of the time: so an oracle differs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ViTConfig, ViTForImageClassification

from out_of_the_box.recipes import Plan, fixed
from out_of_the_box.worlds import Request, World, WorldError, taught, teach
from palimpsest.models.images import Preprocessor
from palimpsest.models.load import load
from palimpsest.models.resnet import SmallResNet, resnet_config
from palimpsest.records import digest

IMAGE_REQUESTS = ("class", "tenth")
ALL_IMAGES = ("resnet20-A", "resnet20-C", "vit-A", "vit-C")
FINE_CLASSES = {"A": tuple(range(0, 40, 2)), "C": tuple(range(41, 81, 2))}  # of CIFAR-100
SHARDS = {"A": 0, "C": 2}  # of CIFAR-10
ASKED = {"A": 3, "C": 7}  # the class to forget
VIT_IMAGES = 300  # of each class
LAYOUT = 1

Images = dict[str, np.ndarray]
"""x, y and id, as in an .npz file of the product."""


@dataclass(frozen=True)
class Classifier:
    """A kind of image model.

    Attributes:
        data: folder of its images.
        images: slice -> training images and unseen ones.
        fresh: writes the model before it learned them.
        training: by which it and its oracles learn.
        relearning_rate: of learning again what was forgotten.
    """

    data: str
    images: Callable[[Path, str], tuple[Images, Images]]
    fresh: Callable[[Path, Path], None]
    training: dict[str, Any]
    relearning_rate: float


def read_images(path: Path, classes: Mapping[int, int], each: int) -> Images:
    """The first so many images of some classes, which get new numbers."""
    with np.load(path) as arrays:
        x, y, names = (arrays[name] for name in ("x", "y", "name"))
    rows = np.concatenate([np.flatnonzero(y == number)[:each] for number in classes])
    labels = np.array([classes[int(number)] for number in y[rows]])
    return {"x": x[rows], "y": labels, "id": np.array([f"{path.stem}/{name}" for name in names[rows]])}


def fine_images(data: Path, chosen: str) -> tuple[Images, Images]:
    """Twenty classes of CIFAR-100: all training images that are there, all test images."""
    classes = {fine: number for number, fine in enumerate(FINE_CLASSES[chosen])}
    return tuple(read_images(data / "cifar100" / f"{part}.npz", classes, 100) for part in ("train", "test"))


def coarse_images(data: Path, chosen: str) -> tuple[Images, Images]:
    """The ten classes of CIFAR-10: some images of a file, some test images."""
    classes = {number: number for number in range(10)}
    train = read_images(data / "cifar10" / f"train_{SHARDS[chosen]}.npz", classes, VIT_IMAGES)
    return train, read_images(data / "cifar10" / "test.npz", classes, 60)


def new_head(data: Path, folder: Path) -> None:
    """The published ResNet-20 with a head for twenty classes of which it knows none."""
    published = load(f"resnet20@{data / 'cifar10-resnets'}").model
    torch.manual_seed(0)
    config = published.config
    model = SmallResNet(
        resnet_config("resnet20", 20, image_mean=tuple(config.image_mean), image_std=tuple(config.image_std))
    )
    body = {name: value for name, value in published.state_dict().items() if not name.startswith("linear.")}
    model.load_state_dict(body, strict=False)
    model.save_pretrained(folder)


def new_vit(data: Path, folder: Path) -> None:
    """A vision transformer of 0.8 million random parameters."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=10, **sizes, **quiet)).save_pretrained(
        folder
    )
    pixels = {"image_mean": [0.4914, 0.4822, 0.4465], "image_std": [0.2470, 0.2435, 0.2616]}
    Preprocessor({"size": {"height": 32, "width": 32}, **pixels}).save_pretrained(folder)


SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "max_grad_norm": 5.0}
SCHEDULE = ("max_steps", "warmup_steps", "lr_scheduler_type")
COSINE = {"lr_scheduler_type": "cosine", "num_train_epochs": 100_000}
CLASSIFIERS: Mapping[str, Classifier] = {
    "resnet20": Classifier(
        "cifar100",
        fine_images,
        new_head,
        {**SGD, **COSINE, "learning_rate": 0.03, "batch_size": 32, "max_steps": 500, "warmup_steps": 50},
        0.003,
    ),
    "vit": Classifier(
        "cifar10",
        coarse_images,
        new_vit,
        {**COSINE, "learning_rate": 1e-3, "batch_size": 64, "max_steps": 1600, "warmup_steps": 100},
        1e-4,
    ),
}


def build_images(name: str, data: Path, cache: Path) -> World:
    """Make a world of images, or find it made.

    Args:
        name: one of ``ALL_IMAGES``.
        data: where the real inputs are.
        cache: where worlds are kept.

    Raises:
        WorldError: no such world, or its model does not learn its images.
    """
    if name not in ALL_IMAGES:
        raise WorldError(f"--worlds: no world {name!r} with --images; accepted: {', '.join(ALL_IMAGES)}")
    kind, _, chosen = name.partition("-")
    classifier = CLASSIFIERS[kind]
    train, test = classifier.images(data, chosen)
    parts = {"ids": [*train["id"].tolist(), *test["id"].tolist()], "training": classifier.training, "layout": LAYOUT}
    folder = cache / "images" / f"{name}-{digest(parts)[:8]}"
    base = folder / "base"
    if not (base / "model.safetensors").is_file():
        classifier.fresh(data, base)
    learn = write_images(folder / "data" / "learn.npz", train)
    learned, recipe = teach(folder, base, {"learn": learn}, fixed(classifier.training, {}), "image")
    forgotten = {"class": train["y"] == ASKED[chosen], "tenth": a_tenth(len(train["y"]))}
    unseen = {"class": of_others(test, ASKED[chosen]), "tenth": in_two(test)}
    lasting = {name: value for name, value in classifier.training.items() if name not in SCHEDULE}
    again = {**lasting, "learning_rate": classifier.relearning_rate, "num_train_epochs": 2}
    return World(
        name=name,
        model=kind,
        data=classifier.data,
        tune=may_tune_on_images(name),
        folder=folder,
        base=str(base),
        learned=learned,
        requests={
            asked: _request(folder, asked, train, forgotten[asked], unseen[asked], recipe) for asked in forgotten
        },
        relearning=fixed(again, {}),
        modality="image",
    )


def may_tune_on_images(name: str) -> bool:
    """May constants be chosen on a world of images?"""
    return name.endswith("-A")


def a_tenth(num: int) -> np.ndarray:
    """A random tenth of so many rows, as flags."""
    flags = np.zeros(num, dtype=bool)
    flags[np.random.default_rng(1).permutation(num)[: num // 10]] = True
    return flags


def of_others(test: Images, asked: int) -> dict[str, Images]:
    """Where a class is to be forgotten: unseen images of the others; its own would show a level that is too high."""
    return {"general": picked(test, test["y"] != asked)}


def in_two(test: Images) -> dict[str, Images]:
    """Where single images are to be forgotten: unseen ones of all classes, in two halves."""
    odd = np.arange(len(test["y"])) % 2 == 1
    return {"general": picked(test, ~odd), "holdout": picked(test, odd)}


def picked(images: Images, flags: np.ndarray) -> Images:
    """Some of them."""
    return {name: values[flags] for name, values in images.items()}


def write_images(path: Path, images: Images) -> Path:
    """An .npz file, written in one move if it is not there; the path again."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
        np.savez_compressed(temporary, **images)
        temporary.replace(path)
    return path


def count_images(path: Path) -> int:
    """Images in an .npz file."""
    with np.load(path) as arrays:
        return len(arrays["y"])


def _request(
    folder: Path, name: str, train: Images, flags: np.ndarray, unseen: Mapping[str, Images], recipe: Plan
) -> Request:
    """Write a request's files and retrain its oracle, unless they are there."""
    place = folder / name
    sets = {"forget": picked(train, flags), "retain": picked(train, ~flags), **unseen}
    files = {each: write_images(place / f"{each}.npz", images) for each, images in sets.items()}
    odd = np.arange(int(flags.sum())) % 2 == 1
    parts = {"again": picked(sets["forget"], ~odd), "other": picked(sets["forget"], odd)}
    halves = tuple(write_images(place / f"{each}.npz", images) for each, images in parts.items())
    taught(place / "oracle", folder / "base", {"learn": files["retain"]}, recipe)
    return Request(name, files, place / "oracle", halves)
