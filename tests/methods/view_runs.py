"""Runs of learners with views, as the engine makes them, without a folder of a version: for their tests."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

from palimpsest import methods
from palimpsest.companions.class_statistics import ClassStatistics
from palimpsest.companions.marks import own_key
from palimpsest.data.encode.batch import TokenSequence
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.labelled import LabelSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.parts import attach, new_parts_of, parts_of
from palimpsest.models.reference import build_reference
from palimpsest.models.scope import Scope, apply_scope, check_moved, parameter_digests
from palimpsest.models.unread import leave_out_unread

CLASSES = 6
PIXELS = PixelFormat(height=8, width=8, mean=(0.5,), std=(0.25,))


def tiny_vit(num_labels: int = CLASSES) -> Any:
    """Two layers, 16 wide, for pictures of 8 by 8."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.2,
    }
    config = ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=num_labels)
    return ViTForImageClassification(config).eval()


def tiny_bert(num_labels: int = CLASSES) -> Any:
    """Two layers, 16 wide, of 40 words."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.2,
    }
    return BertForSequenceClassification(BertConfig(vocab_size=40, **sizes, num_labels=num_labels)).eval()


def pictures(classes: tuple[int, ...], each: int = 4, seed: int = 0) -> ImageSet:
    """Noise around a picture of each class."""
    generator = torch.Generator().manual_seed(1000 + seed)
    kinds = torch.randint(0, 256, (CLASSES, 8, 8, 1), generator=torch.Generator().manual_seed(7))
    label_N = torch.tensor([c for c in classes for _ in range(each)])
    noise = torch.randint(-25, 26, (len(label_N), 8, 8, 1), generator=generator)
    images = (kinds[label_N] + noise).clamp(0, 255).to(torch.uint8)
    ids = tuple(f"{seed}-{c}-{n}" for c in classes for n in range(each))
    return ImageSet(ids, images, label_N, PIXELS)


def sentences(classes: tuple[int, ...], each: int = 4, seed: int = 0) -> LabelSet:
    """Ragged rows of words, of which a class has its own."""
    generator = torch.Generator().manual_seed(2000 + seed)
    rows, labels = [], []
    for c in classes:
        for n in range(each):
            words = torch.randint(5 * c + 3, 5 * c + 8, (4 + n % 3,), generator=generator).tolist()
            rows.append(TokenSequence(f"{seed}-{c}-{n}", (1, *words), (False,) * (len(words) + 1)))
            labels.append(c)
    return LabelSet(tuple(rows), torch.tensor(labels))


@dataclass(frozen=True)
class Version:
    """A model and the folder of its statistics; every run makes another."""

    model: Any
    folder: Path

    def then(
        self, name: str, sets: Mapping[str, Any], options: Any = None, *, dies_at: int = 0, **training: Any
    ) -> Version:
        """The version that a run of a method makes of this one.

        Args:
            name: of the method.
            sets: that it is given.
            options: of it.
            dies_at: number of the step at which the process is lost and begun again, from 1; 0 = never.
            training: options over a single pass in batches of four.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder.parent))
        companion = _statistics(self.folder, folder)
        length = {"num_train_epochs": 1, "batch_size": 4, "checkpoint_steps": 1}
        options_of_run = Training(**{**methods.load(name).defaults, **length, **training})
        for dies in (dies_at, 0) if dies_at else (0,):
            model, method, drawn = _started(self.model, name, sets, options or {}, folder)
            method.companions, method.recording = {companion.kind: companion}, folder / "recording"
            method.prepare(model, drawn)
            before = parameter_digests(model)
            if dies:
                with pytest.raises(_LostError):
                    run(Job(_mortal(method, dies), model, drawn, options_of_run, folder))
                continue
            if run(Job(method, model, drawn, options_of_run, folder)).steps:
                check_moved(model, before)
        model = method.finish(model)
        companion.take_up(folder)
        for part in new_parts_of(model):
            part.is_new = part.continues = False
        return Version(model.eval().requires_grad_(False), folder)

    def logits(self, examples: Any) -> torch.Tensor:
        """What it says of a set."""
        return logits(self.model, examples)

    def statistics(self) -> Any:
        """What was counted for it."""
        key = own_key()
        assert key is not None
        return ClassStatistics.open(self.folder / ClassStatistics.kind, key).record()

    def head(self) -> Any:
        """Its class head."""
        return next(part for part in parts_of(self.model) if hasattr(part, "present_C"))


class _LostError(Exception):
    """The process is gone."""


def _mortal(method: Any, steps: int) -> Any:
    """A method that is lost at its step of that number."""
    update, left = method.update, [steps]

    def dying(*arguments: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise _LostError
        update(*arguments)

    method.update = dying
    return method


def _started(
    start: Any, name: str, sets: Mapping[str, Any], options: Any, place: Path
) -> tuple[Any, Any, dict[str, Any]]:
    """A copy of the model with the parts of a method, the method, and the sets it draws from."""
    model, kind = copy.deepcopy(start), methods.load(name)
    config, drawn = methods.configure(name, options), {s: sets[s] for s in kind.draws_from(sets)}
    torch.manual_seed(0)
    made = kind(config).parts(model, drawn, 0)
    for part in made:
        part.is_new = True
    attach(model, made)
    apply_scope(model, Scope(kind="all" if kind.moves_all else "parts"))
    leave_out_unread(model, [examples.plain().batch(examples.ids[:1]) for examples in drawn.values()])
    torch.manual_seed(0)
    asked = {s: drawn[s] for s in kind.asks_reference_on(config) if s in drawn}
    return model, kind(config, build_reference(model, asked, place / "reference") if asked else None), drawn


def _statistics(start: Path, folder: Path) -> ClassStatistics:
    """Those of a version, in the folder of the next."""
    key, kind = own_key(), ClassStatistics.kind
    assert key is not None
    if (start / kind).is_dir():
        shutil.copytree(start / kind, folder / kind)
    return ClassStatistics.open(folder / kind, key)


def first_version(model: Any, place: Path) -> Version:
    """A model before any run, with a place for what follows."""
    (place / "first").mkdir()
    return Version(model, place / "first")


def logits(model: Any, examples: Any) -> torch.Tensor:
    """What a model says of a set."""
    with torch.no_grad():
        return examples.batch(examples.ids).predict(model).logits_SV
