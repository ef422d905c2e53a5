"""A slice learned by the loop, from the adapters before it to those after it, and the file of the latter.

Whatever is drawn is a function of the seed, the shard and the slice, so that a slice that is learned again, in this
process or in another one, ends with the same bits. One that was learned is not learned twice.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import extract_model_from_parallel, set_seed
from safetensors.torch import load_file
from torch import nn

from palimpsest import methods
from palimpsest.companions.shards import RECORDED_SHARDS, checkpoint_name
from palimpsest.data.draws import random_words
from palimpsest.durable import check_held_still
from palimpsest.engine.sharded.cutting import ShardCourse, SliceLesson
from palimpsest.engine.sharded.foretold import SHARD_ROWS, options_of_lesson, order_of
from palimpsest.errors import ModelError
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.stop import Stop
from palimpsest.loop.training import Training
from palimpsest.models.parts import attach, detach
from palimpsest.models.parts.lora import AdaptedLayer, Lora, LoraConfig
from palimpsest.models.scope import linear_places
from palimpsest.models.sealed import is_sound, save_sealed
from palimpsest.models.sealed_json import read_sealed, write_sealed

WORK = "recording/lessons"  # in the folder of a run: slices on their way

Told = Callable[[SliceLesson, int, int, float], None]
"""Called with the slice, the step, the steps of it, and the loss."""


class Learned(NamedTuple):
    """What a slice took, over all tries.

    Attributes:
        steps: of the optimizer.
        positions: that went forward.
        seconds: of the wall clock.
    """

    steps: int
    positions: int
    seconds: float


class Setup(NamedTuple):
    """How the slices of a run are learned.

    Attributes:
        folder: of the run.
        method: its name.
        options: of the method.
        training: of the run; a slice has passes of its own.
        sets: "learn" with the rows, and "replay" where it is rehearsed; encoded.
    """

    folder: Path
    method: str
    options: Mapping[str, Any]
    training: Training
    sets: Mapping[str, Any]


def adapted_layers(model: Any, rank: int, lora_alpha: float) -> tuple[AdaptedLayer, ...]:
    """The layers that every shard adapts.

    Raises:
        ModelError: there are none.
    """
    found = tuple(_layer(model.get_submodule(name), name, rank, lora_alpha / rank) for name in linear_places(model))
    if not found:
        raise ModelError("no linear layer lies under the head of the model, so that shards have nothing to adapt")
    return found


def _layer(module: Any, name: str, rank: int, scale: float) -> AdaptedLayer:
    rows, columns = module.weight.shape
    width_in, width_out = (columns, rows) if isinstance(module, nn.Linear) else (rows, columns)  # GPT-2 stores Wᵀ
    return AdaptedLayer(at=name, width_in=width_in, width_out=width_out, rank=rank, scale=scale)


def new_adapters(layers: tuple[AdaptedLayer, ...], seed: int, shard: int) -> Lora:
    """Adapters before the first slice: A uniform in ±1/√(width in), as PEFT draws it, B zero."""
    part = Lora(LoraConfig(layers=layers))
    generator = torch.Generator().manual_seed(random_words(seed, f"sisa/adapters/{shard}", 0, 1)[0] >> 1)
    for down_RD in part.down:
        bound = 1 / math.sqrt(down_RD.shape[1])
        down_RD.data.uniform_(-bound, bound, generator=generator)
    return part


def read_adapters(path: Path, layers: tuple[AdaptedLayer, ...]) -> Lora:
    """Adapters from a checkpoint.

    Raises:
        ModelError: it is of other layers.
    """
    part = Lora(LoraConfig(layers=layers))
    try:
        part.load_state_dict(load_file(path))
    except RuntimeError:
        raise ModelError(f"{path} is of other layers than the model has; learn again with --method sisa") from None
    return part


def file_of_lesson(setup: Setup, lesson: SliceLesson) -> Path:
    """Where the adapters after a slice lie in the folder of a run."""
    return setup.folder / RECORDED_SHARDS / checkpoint_name(lesson.shard, lesson.piece)


def what_it_took(setup: Setup, lesson: SliceLesson) -> Learned | None:
    """What a slice took that was learned before; None where it was not, or its file is damaged."""
    path = file_of_lesson(setup, lesson)
    try:
        taken = Learned(*read_sealed(path.with_suffix(".json")))
    except (OSError, ValueError, TypeError):
        return None
    return taken if is_sound(path) else None


def learn_shard(
    model: Any,
    course: ShardCourse,
    setup: Setup,
    *,
    stop: Stop | None = None,
    told: Told | None = None,
) -> list[Learned]:
    """Learn the slices of a shard one after the other.

    Args:
        model: on its device, without an ensemble; as it was before afterwards.
        course: what to learn.
        setup: how, and from which sets.
        stop: heeded at every checkpoint.
        told: hears of every step.

    Returns:
        What each of them took.
    """
    options = setup.options
    layers = adapted_layers(model, int(options["rank"]), float(options["lora_alpha"]))
    latest, taken = course.start, []
    for lesson in course.lessons:
        found = what_it_took(setup, lesson)
        if found is None:
            seed = setup.training.seed
            part = new_adapters(layers, seed, course.shard) if latest is None else read_adapters(latest, layers)
            found = _learn(model, part, lesson, setup, (stop or Stop(), told))
        taken.append(found)
        latest = file_of_lesson(setup, lesson)
    return taken


def _learn(model: Any, part: Lora, lesson: SliceLesson, setup: Setup, hands: tuple[Stop, Told | None]) -> Learned:
    """One slice; the model bears the adapters meanwhile, which alone move."""
    folder = setup.folder / WORK / file_of_lesson(setup, lesson).stem
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").touch()
    with ExitStack() as stack:
        model.requires_grad_(False)
        part.is_new = True
        attach(model, [part.requires_grad_(True)])
        stack.callback(lambda: detach(extract_model_from_parallel(model, keep_fp32_wrapper=False), [part]))
        set_seed(random_words(setup.training.seed, f"sisa/steps/{lesson.shard}/{lesson.piece}", 0, 1)[0] >> 33)
        ended = run(_job(model, lesson, setup, folder, hands))
    taken = Learned(ended.steps, ended.tokens, ended.seconds)
    model.eval()
    _save(part, taken, file_of_lesson(setup, lesson))
    shutil.rmtree(folder, ignore_errors=True)
    return taken


def _job(
    model: Any,
    lesson: SliceLesson,
    setup: Setup,
    folder: Path,
    hands: tuple[Stop, Told | None],
) -> Job:
    stop, told = hands
    sets = {**setup.sets, SHARD_ROWS: setup.sets[SHARD_ROWS].subset(lesson.ids)}
    method = methods.load(setup.method)(methods.configure(setup.method, setup.options))
    method.prepare(model, sets)

    def tell(step: int, planned: int, values: Mapping[str, Any]) -> None:
        if told is not None:
            told(lesson, step, planned, float(values["loss"]))

    return Job(
        method=method,
        model=model,
        sets=sets,
        training=options_of_lesson(lesson, setup.training),
        folder=folder,
        progress=tell,
        arranged=dict.fromkeys(sets, order_of(lesson, setup.training.seed)),
        stop=stop,
    )


def _save(part: Lora, taken: Learned, path: Path) -> None:
    """The adapters, and then what they took: where that is, they are whole."""
    check_held_still(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_sealed(part.state_dict(), path)
    write_sealed(path.with_suffix(".json"), list(taken))
