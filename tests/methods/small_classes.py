"""Tiny classifiers of images and of texts, and two tasks for each: for learners that move the backbone and the head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tests.models.small_texts import classifier
from transformers import ViTConfig, ViTForImageClassification

from palimpsest import companions, methods
from palimpsest.companions.companion import Companion
from palimpsest.companions.marks import own_key
from palimpsest.contract import Method
from palimpsest.data.encode.batch import TokenSequence
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.labelled import LabelSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.reference import build_reference
from palimpsest.models.scope import Scope, apply_scope, leave_scope

RECORDED = "recording"
BRIEF: dict[str, Any] = {"num_train_epochs": 2, "batch_size": 4, "learning_rate": 0.05}
KINDS = ("images", "texts")


def small_classifier(kind: str) -> Any:
    """Of four classes of images, or three of texts."""
    if kind == "texts":
        return classifier("bert").eval()
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTForImageClassification(ViTConfig(**shape, image_size=8, patch_size=4, num_labels=4)).eval()


def class_rows(kind: str, classes: tuple[int, ...], each: int = 6, seed: int = 0) -> Any:
    """So many rows of each class: what makes the class, and noise."""
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.tensor([label for label in classes for _ in range(each)])
    ids = tuple(f"{kind}{seed}-{number}-{label}" for number, label in enumerate(label_N.tolist()))
    if kind == "texts":
        words = torch.randint(20, 30, (len(ids), 4), generator=generator)
        words[:, :2] = 5 + 3 * label_N[:, None]
        texts = [TokenSequence(i, tuple(row), (False,) * 4) for i, row in zip(ids, words.tolist(), strict=True)]
        return LabelSet(tuple(texts), label_N)
    made = torch.randint(0, 256, (9, 8, 8, 3), generator=torch.Generator().manual_seed(7))
    noise = torch.randint(-40, 41, (len(ids), 8, 8, 3), generator=generator)
    pictures = (made[label_N] + noise).clamp(0, 255).to(torch.uint8)
    return ImageSet(ids, pictures, label_N, PixelFormat(8, 8, (0.5,) * 3, (0.5,) * 3))


def two_tasks(kind: str) -> tuple[Any, Any]:
    """The rows of a first task, and of a second."""
    return class_rows(kind, (0, 1)), class_rows(kind, (2, 3) if kind == "images" else (2,), seed=1)


def beside(folder: Path) -> dict[str, Companion]:
    """The histories in the folder of a version."""
    key = own_key()
    assert key is not None
    return {companion.kind: companion for companion in companions.opened(folder, key)}


def prepared(
    name: str, model: Any, sets: Mapping[str, Any], folder: Path, found: Mapping[str, Companion], **options: Any
) -> Method:
    """A method as a run has it before the first step."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    kind, config = methods.load(name), methods.configure(name, options)
    asked = {s: sets[s] for s in kind.asks_reference_on(config) if s in sets}
    method = kind(config, build_reference(model, asked, folder / "reference") if asked else None)
    method.companions, method.recording = found, folder / RECORDED
    method.prepare(model, sets)
    return method


def learn(
    name: str,
    model: Any,
    sets: Mapping[str, Any],
    folder: Path,
    *,
    found: Mapping[str, Companion] | None = None,
    scope: Scope | None = None,
    training: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A run, and the histories that it leaves beside the model; the model."""
    moving = apply_scope(model, scope or Scope())
    method = prepared(name, moving, sets, folder, found or {}, **options)
    run(Job(method, moving, sets, Training(**{**method.defaults, **BRIEF, **(training or {})}), folder))
    made = leave_scope(method.finish(moving), scope or Scope())
    key = own_key()
    assert key is not None
    for kind in method.keeps:
        if kind in (found or {}):
            import shutil

            shutil.copytree(found[kind].folder, companions.companion_place(kind, folder), dirs_exist_ok=True)  # type: ignore[index]
        companions.load(kind).open(companions.companion_place(kind, folder), key).take_up(folder)
    return made


def accuracy(model: Any, *sets: Any) -> float:
    """Over all rows of some sets."""
    model.eval()
    with torch.no_grad():
        said = [examples.batch(examples.ids).predict(model) for examples in sets]
    return torch.cat([one.logits_SV.argmax(1) == one.target_S for one in said]).float().mean().item()
