"""One file that holds everything a run needs to go on: weights, optimizer, random state, data position.

A single safetensors file with its own digest, replaced atomically: a process that dies leaves the old one or the new
one, never a half.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from palimpsest.durable import check_held_still
from palimpsest.errors import ModelError
from palimpsest.loop.adamw import step_device
from palimpsest.models.scope import trainable
from palimpsest.models.sealed import save_sealed
from palimpsest.untrusted import parse_json

OWN = "method/"
FIRST, OTHER = "optimizer", "optimizer2"


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    state: Mapping[str, Any],
    own: Mapping[str, Tensor] = MappingProxyType({}),
    other: torch.optim.Optimizer | None = None,
) -> None:
    """Write a checkpoint; on return it is on the disk.

    Args:
        path: the file; replaced atomically.
        model: its trainable parameters and its buffers are saved.
        optimizer: over exactly the trainable parameters.
        state: JSON values of the loop.
        own: tensors of the method.
        other: a second optimizer over the same parameters, as that of a repair.
    """
    check_held_still(path)
    tensors = {f"weight/{name}": p.detach() for name, p in trainable(model).items()}
    tensors |= {f"buffer/{name}": b for name, b in _own_buffers(model).items()}
    tensors |= _optimizer_tensors(model, optimizer, FIRST)
    tensors |= {} if other is None else _optimizer_tensors(model, other, OTHER)
    tensors |= _random_state()
    tensors |= {f"{OWN}{name}": t for name, t in own.items()}
    save_sealed(tensors, path, {"state": json.dumps(dict(state), sort_keys=True)})


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, *, other: torch.optim.Optimizer | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Bring model, optimizer and random state back to a checkpoint.

    Returns:
        The loop's state, and the method's own tensors.

    Raises:
        ModelError: the file is damaged or belongs to another model.
    """
    state, tensors = _read(path)
    if {f"weight/{name}" for name in trainable(model)} != {name for name in tensors if name.startswith("weight/")}:
        raise ModelError(f"checkpoint {path} belongs to another model or scope; delete it to start the run again")
    _restore_model(model, tensors)
    _restore_optimizer(model, optimizer, tensors, FIRST)
    if other is not None:
        _restore_optimizer(model, other, tensors, OTHER)
    _restore_random_state(tensors)
    own = {name.removeprefix(OWN): t.clone() for name, t in tensors.items() if name.startswith(OWN)}
    return state, own


def stage_in(path: Path) -> int:
    """Number of the stage that a checkpoint was written in; 0 where it says none.

    Raises:
        ModelError: the file is damaged.
    """
    return int(_read(path)[0].get("stage", 0))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The loop's state and all tensors, windows on the file."""
    try:
        with safe_open(path, framework="pt") as file:
            state = parse_json(file.metadata()["state"])
            return dict(state), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(f"checkpoint {path} cannot be read ({error}); delete it to start the run again") from error


def _own_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that a state dict keeps, e.g. running statistics; constants such as causal masks are left out."""
    kept = model.state_dict().keys()
    return {name: b for name, b in model.named_buffers() if name in kept}


def _random_state() -> dict[str, Tensor]:
    state = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["random/accelerator"] = torch.cuda.get_rng_state()
    return state


def _restore_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(tensors[f"weight/{name}"])
        for name, buffer in _own_buffers(model).items():
            buffer.copy_(tensors[f"buffer/{name}"])


def _restore_random_state(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random/cpu"])
    if "random/accelerator" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/accelerator"])


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, place: str) -> dict[str, Tensor]:
    return {
        f"{place}/{name}/{key}": value
        for name, parameter in trainable(model).items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], place: str
) -> None:
    for name, parameter in trainable(model).items():
        optimizer.state.pop(parameter, None)  # what was remembered since is not part of what was saved
        prefix = f"{place}/{name}/"
        saved = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        if saved:
            # Moments lie beside the parameter and as it does, the step counter where the optimizer has it. Copies,
            # because what was read is a window on the file, and one tensor in use keeps all of the file in memory.
            counter = step_device(optimizer, parameter)
            optimizer.state[parameter] = {
                key: t.to(counter, copy=True) if t.ndim == 0 else torch.empty_like(parameter, dtype=t.dtype).copy_(t)
                for key, t in saved.items()
            }
