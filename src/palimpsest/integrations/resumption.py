"""What a checkpoint of a Trainer needs besides: where the draws stand, what the method keeps, and whose run it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers.trainer import OPTIMIZER_NAME
from transformers.trainer_utils import get_last_checkpoint

from palimpsest.durable import put
from palimpsest.errors import ModelError, PlanError
from palimpsest.files import write_atomic
from palimpsest.integrations.objective import Objective
from palimpsest.untrusted import parse_json

NOTE, TENSORS = "objective.json", "objective.safetensors"
_CURE = "resume with what the run was started with; the model is the one from before the run, not the checkpoint's"


def last_checkpoint(asked: str | bool | None, output: str) -> str | None:
    """The folder to go on from, or None for a new run.

    Args:
        asked: ``resume_from_checkpoint``: a folder, or True for the last one in ``output``.
        output: the run's folder.

    Raises:
        PlanError: there is none, or nothing can go on from it.
    """
    if asked is True:
        found = get_last_checkpoint(output) if Path(output).is_dir() else None
        if found is None:
            raise PlanError(f"no checkpoint in {output}; leave resume_from_checkpoint out to start")
        asked = str(found)
    if asked and not (Path(asked) / NOTE).is_file():
        raise PlanError(f"checkpoint {asked} has no {NOTE}; give one that an ObjectiveTrainer wrote")
    if asked and not (Path(asked) / OPTIMIZER_NAME).is_file():
        raise PlanError(f"checkpoint {asked} holds the model alone; write them without save_only_model to go on")
    return str(asked) if asked else None


def save_beside(folder: Path, run: Mapping[str, Any], objective: Objective) -> None:
    """Write what a resumed run needs into the folder of a checkpoint.

    Args:
        folder: of the checkpoint; created.
        run: what tells this run from others, JSON values.
        objective: as it is now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in objective.own_state().items()}
    if state:
        temporary = (folder / TENSORS).with_suffix(".tmp")
        save_file(state, temporary)
        put(temporary, folder / TENSORS)
    write_atomic(folder / NOTE, json.dumps({"run": run, "positions": objective.positions()}, indent=2) + "\n")


def check_same_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Refuse to go on with something else than a checkpoint's run was started with.

    Raises:
        PlanError: names what differs.
        ModelError: the file cannot be read.
    """
    before = _note(folder)["run"]
    now = json.loads(json.dumps(dict(run)))
    differing = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
    if differing:
        raise PlanError(f"checkpoint {folder} is of a run with another {', '.join(differing)}; {_CURE}")


def load_beside(folder: Path, objective: Objective) -> None:
    """Bring the draws and the method back to a checkpoint."""
    objective.go_to(_note(folder)["positions"])
    tensors = folder / TENSORS
    objective.load_own(load_file(tensors) if tensors.is_file() else {})


def _note(folder: Path) -> dict[str, Any]:
    try:
        note = parse_json((folder / NOTE).read_text(encoding="utf-8"))
        return {"run": dict(note["run"]), "positions": dict(note["positions"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"checkpoint {folder}: {NOTE} cannot be read ({error}); go on from another one") from None
