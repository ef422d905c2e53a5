"""Tasks of classes for tiny encoders, and runs of prompt learners over them as the engine makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.models.small_encoders import encoder

from palimpsest import methods
from palimpsest.contract import Method
from palimpsest.data.encode.batch import TokenSequence
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.labelled import LabelSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.parts import attach, parts_of
from palimpsest.models.scope import Scope, apply_scope

FORMAT = PixelFormat(12, 12, (0.5,), (0.5,))
OPTIONS: dict[str, dict[str, Any]] = {
    "l2p": {"prompts": 4, "length": 2, "chosen": 2},
    "dual_prompt": {"length": 2},
    "coda_prompt": {"components": 3, "length": 2, "orthogonality": 0.1},
}
BRIEF = {"learning_rate": 1e-2, "batch_size": 4, "max_steps": 5, "checkpoint_steps": 1}


def task(layout: str, classes: tuple[int, ...], rows: int = 6) -> Any:
    """Rows of some classes, each class with a pattern of its own."""
    generator = torch.Generator().manual_seed(classes[0])
    label_N = torch.tensor([classes[n % len(classes)] for n in range(rows)])
    ids = tuple(f"{classes}-{n}" for n in range(rows))
    if layout == "bert":
        lengths = [4 + n % 3 for n in range(rows)]
        words = [torch.randint(5, 20, (length,), generator=generator).tolist() for length in lengths]
        texts = [
            TokenSequence(i, (3, *said, 20 + label), (False,) * (len(said) + 2))
            for i, said, label in zip(ids, words, label_N.tolist(), strict=True)
        ]
        return LabelSet(tuple(texts), label_N)
    images = torch.randint(0, 120, (rows, 12, 12, 1), generator=generator, dtype=torch.uint8)
    for row, label in enumerate(label_N.tolist()):
        images[row, 3 * label : 3 * label + 3] += 100
    return ImageSet(ids, images, label_N, FORMAT)


def built(model: Any, name: str, examples: Any, seed: int = 0) -> tuple[Method, Any]:
    """Method and model as before the first step, with the options of these tests; earlier parts are old."""
    for part in parts_of(model):
        part.is_new = part.continues = False
    method = methods.load(name)(methods.configure(name, OPTIONS[name]))
    method.check(model)
    torch.manual_seed(seed)
    made = method.parts(model, {"learn": examples}, seed)
    for part in made:
        part.is_new = True
    attach(model, made)
    model = apply_scope(model, Scope())
    return method, method.prepare(model, {"learn": examples})


def learned(model: Any, name: str, examples: Any, folder: Path, **more: Any) -> Any:
    """A short run; ``progress`` may end it before."""
    folder.mkdir(exist_ok=True)
    method, model = built(model, name, examples)
    run(Job(method, model, {"learn": examples}, Training(**BRIEF), folder, **more))
    return method.finish(model)


def fresh(layout: str) -> Any:
    """The model before the first task; BERT has three classes, ViT four."""
    return encoder(layout)
