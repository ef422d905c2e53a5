"""A small world for learners that count: images and texts of few classes, versions that learn and unlearn in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.models.small_texts import SMALL, classifier
from tests.models.test_resnet import tiny

from palimpsest import methods
from palimpsest.companions.class_statistics import ClassRecord, ClassStatistics
from palimpsest.companions.marks import own_key
from palimpsest.data.encode.batch import TokenSequence
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.labelled import LabelSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.models.parts import attach

CLASSES = 3
ROWS = 260


def label_of(number: int) -> int:
    """The class of a row."""
    return number % CLASSES


def images(numbers: Iterable[int]) -> ImageSet:
    """Noise, with one of three colours brighter."""
    numbers = list(numbers)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 120, (ROWS, 8, 8, 3), generator=generator)
    bright = 130 * torch.eye(CLASSES, dtype=torch.long)[[label_of(n) for n in range(ROWS)]][:, None, None, :]
    pixels = (noise + bright).to(torch.uint8)[numbers]
    labels = torch.tensor([label_of(n) for n in numbers], dtype=torch.long)
    return ImageSet(tuple(f"i{n}" for n in numbers), pixels, labels, PixelFormat(8, 8, (0.5,) * 3, (0.25,) * 3))


def texts(numbers: Iterable[int]) -> LabelSet:
    """Random words of ragged lengths, a third of them for each class."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(ROWS):
        length = int(torch.randint(3, 9, (1,), generator=generator))
        words = torch.randint(0, 8, (length,), generator=generator) + 5 + 8 * label_of(number)
        made.append(
            TokenSequence(
                f"t{number}", (3, *words.clamp(max=SMALL["vocab_size"] - 1).tolist()), (False,) * (length + 1)
            )
        )
    numbers = list(numbers)
    labels = torch.tensor([label_of(n) for n in numbers], dtype=torch.long)
    return LabelSet(tuple(made[n] for n in numbers), labels)


KINDS = {"images": (tiny, images), "texts": (lambda: classifier("bert").eval(), texts)}


@dataclass(frozen=True)
class Version:
    """A model with its head, and the statistics beside it."""

    model: Any
    companion: ClassStatistics

    @property
    def record(self) -> ClassRecord:
        """What is counted."""
        found = self.companion.record()
        assert found is not None
        return found


class Counted:
    """Versions of one method on one kind of data."""

    def __init__(self, method: str, kind: str, folder: Path, **options: Any) -> None:
        build, self.rows = KINDS[kind]
        self.start, self.folder, self.number = build(), folder, 0
        self.kind, self.config = methods.load(method), methods.configure(method, options)

    def run(self, sets: dict[str, Any], start: Version | None) -> Version:
        """What a run does with an edit, in memory."""
        self.number += 1
        method = self.kind(self.config)
        model = copy.deepcopy(self.start if start is None else start.model)
        method.companions = {} if start is None else {"class_statistics": start.companion}
        method.recording = self.folder / str(self.number)
        for part in (made := method.parts(model, sets, 0)):
            part.is_new = True
        attach(model, made)
        method.prepare(model, sets)
        method.edit(model, sets)
        key = own_key()
        assert key is not None
        return Version(model, ClassStatistics.open(method.recording / "class_statistics", key))

    def learned(self, numbers: Iterable[int], start: Version | None = None) -> Version:
        """After learning some rows."""
        return self.run({"learn": self.rows(numbers)}, start)

    def unlearned(self, start: Version, numbers: Iterable[int]) -> Version:
        """After unlearning some rows."""
        return self.run({"forget": self.rows(numbers)}, start)

    def logits(self, version: Version) -> torch.Tensor:
        """Of rows that nobody learned."""
        batch = self.rows(range(240, ROWS)).batch(self.rows(range(240, ROWS)).ids)
        with torch.no_grad():
            said: torch.Tensor = batch.predict(version.model).logits_SV
        return said

    def accuracy(self, version: Version) -> float:
        """Of rows that nobody learned."""
        wanted = torch.tensor([label_of(n) for n in range(240, ROWS)])
        return float((self.logits(version).argmax(-1) == wanted).float().mean())


def entering_head(world: Counted, numbers: Iterable[int]) -> np.ndarray:
    """What enters the head of the model before for some rows of texts, one at a time, in double precision."""
    seen: list[Any] = []
    hook = world.start.classifier.register_forward_pre_hook(lambda _m, arguments: seen.append(arguments[0][0]))
    with torch.no_grad():
        for number in numbers:
            world.rows([number]).batch([f"t{number}"]).predict(world.start)
    hook.remove()
    return torch.stack(seen).double().numpy()
