"""A version with parts, written to its folder and read from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from palimpsest.durable import check_held_still
from palimpsest.errors import ModelError
from palimpsest.files import write_atomic
from palimpsest.models import parts as kinds
from palimpsest.models.parts.part import Part
from palimpsest.models.parts.parts_folder import (
    BASE,
    FORMAT,
    MODEL_TYPE,
    PARTS,
    RECORD,
    TENSORS,
    name_of,
    parts_in,
    record_in,
)
from palimpsest.models.proportions import tensor_shapes
from palimpsest.untrusted import refusing

_PLAIN = ("model.safetensors", "model.safetensors.index.json", "adapter_config.json")


def write_version(model: Any, folder: Path, **options: Any) -> None:
    """Write a model to a folder: a plain one as its class does it, one with parts in the layout of parts_folder.py.

    Args:
        model: with or without parts; it has them again afterwards.
        folder: made if need be; what it holds of an earlier write is replaced.
        options: of ``save_pretrained``.

    Raises:
        ModelError: the folder holds the weights of a plain model, which plain readers would take.
    """
    with kinds.base_alone(model) as parts:
        if not parts:
            model.save_pretrained(folder, **options)
            return
        strange = next((name for name in _PLAIN if (folder / name).exists()), None)
        if strange is not None:
            raise ModelError(f"{folder} holds {strange}, which would be taken for this model; give an empty folder")
        check_held_still(folder)
        _write(model, parts, folder, options)


def _write(model: Any, parts: Sequence[Part], folder: Path, options: Mapping[str, Any]) -> None:
    """Base, parts, and last of all the config that names them."""
    for old in (folder / BASE, folder / PARTS):
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
    (folder / "config.json").unlink(missing_ok=True)
    model.save_pretrained(folder / BASE, **options)
    listed = [name_of(number, part.kind) for number, part in enumerate(parts)]
    for name, part in zip(listed, parts, strict=True):
        _write_part(part, folder / PARTS / name)
    config = {"model_type": MODEL_TYPE, "format": FORMAT, "base": BASE, "parts": listed}
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")


def _write_part(part: Part, folder: Path) -> None:
    folder.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in part.state_dict().items()}
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    record = {
        "format": FORMAT,
        "kind": part.kind,
        "alpha": part.alpha,
        "config": part.config.model_dump(mode="json"),
        "made_by": dict(part.made_by),
    }
    write_atomic(folder / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")


def read_parts(folder: Path) -> tuple[Part, ...]:
    """The parts in the folder of a version, oldest first, frozen, on the CPU, in eval mode.

    Raises:
        ModelError: a kind is unknown, options are none of it, or tensors are missing, strange or misshapen.
    """
    return tuple(_read_part(folder, place) for place in parts_in(folder))


def _read_part(folder: Path, place: Path) -> Part:
    where = f"model {folder}: part {place.name}"
    record = record_in(place)
    with refusing(lambda reason: ModelError(f"{where} cannot be built: {reason}")):
        kind = kinds.load(record["kind"])
        try:
            config = kinds.part_options(record["kind"], record["config"])
        except Exception as error:
            raise ModelError(f"{where}: {error}") from error
        with torch.device("meta"):  # a width of a billion costs nothing here
            asked = {name: list(tensor.shape) for name, tensor in kind(config).state_dict().items()}
        _check_tensors(asked, tensor_shapes(place / TENSORS), where)
        with torch.random.fork_rng(devices=[]):
            part = kind(config)
    try:
        part.load_state_dict(load_file(place / TENSORS))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{where}: {TENSORS} cannot be read: {error}") from error
    part.alpha = float(record["alpha"]) if "alpha" in record else 1.0
    made_by = record.get("made_by")
    part.made_by = {str(k): str(v) for k, v in made_by.items()} if isinstance(made_by, dict) else {}
    return part.eval().requires_grad_(False)


def _check_tensors(asked: Mapping[str, Sequence[int]], there: Mapping[str, Sequence[int]], where: str) -> None:
    """Every tensor that the part is made of, in its shape, and no other."""
    problems = {
        "missing": [name for name in asked if name not in there],
        "without a place in it": [name for name in there if name not in asked],
        "of another shape": [name for name in asked if name in there and list(asked[name]) != list(there[name])],
    }
    for problem, names in problems.items():
        if names:
            raise ModelError(f"{where}: {len(names)} of its tensors are {problem}, e.g. {names[0]}; copy it again")


def folded(model: Any, *, every: bool = False) -> tuple[Part, ...]:
    """Fold what can be folded exactly into the plain weights, oldest first.

    A part is left where another that stays acts between the weights and it: at a place inside its own, or earlier at
    the same one.

    Args:
        model: with its parts; those that were folded are off it afterwards.
        every: also of kinds that a save keeps beside the weights.

    Returns:
        Those that were folded.
    """
    parts = kinds.detach(model)
    stay = list(parts)
    while (part := next((one for one in stay if _goes(one, stay, model, every)), None)) is not None:
        stay.remove(part)
    kinds.attach(model, stay)
    return tuple(part for part in parts if part not in stay)


def _goes(part: Part, stay: Sequence[Part], model: Any, every: bool) -> bool:
    """Is it folded? One that is switched off adds nothing: it is folded by leaving it out."""
    if not (every or part.folds_when_saved):
        return False
    within = any(_acts_inside(other, part) for other in stay if other is not part)
    before = any(set(other.places) & set(part.places) for other in stay[: stay.index(part)])
    return not (within or before) and (part.alpha == 0 or part.fold(model))


def _acts_inside(other: Part, part: Part) -> bool:
    """Has a part a place within one of another's?"""
    return any(inner.startswith(f"{place}.") for inner in other.places for place in part.places)
