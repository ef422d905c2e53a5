"""Weights to come back to: files beside the run, so that no second copy stands on the accelerator.

A snapshot holds what a step moves: trainable weights, buffers, both optimizers and the method's own tensors, with the
method's count of iterations. Where the streams stand is not in it: what was drawn and taken back is not drawn again.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import safe_open

from palimpsest.durable import check_held_still
from palimpsest.loop.checkpoint import load_checkpoint, save_checkpoint
from palimpsest.loop.machine import Machine
from palimpsest.models.scope import trainable

SUFFIX = ".safetensors"
TINY = 1e-12  # norm of a matrix that is still zero, as a fresh adapter's second factor


class Snapshots:
    """The numbered snapshots of one run."""

    def __init__(self, folder: Path, machine: Machine, other: torch.optim.Optimizer | None) -> None:
        """Snapshots in a folder, made if need be.

        Args:
            folder: of the run's control.
            machine: whose model, optimizer and method are kept.
            other: the optimizer of the repair; None without one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._machine = machine
        self._other = other

    def take(self, number: int) -> int:
        """Write what is; the number that names it."""
        machine = self._machine
        save_checkpoint(
            self._path(number),
            machine.job.model,
            machine.plain_optimizer,
            other=self._other,
            state={"step": machine.state.step},
            own=machine.own_state(),
        )
        return number

    def restore(self, number: int, *, method: bool = True) -> None:
        """Bring back what was.

        Args:
            number: of the snapshot.
            method: False leaves the tensors of method and rules, for a method that is about to be built anew.
        """
        machine = self._machine
        state, own = load_checkpoint(self._path(number), machine.job.model, machine.plain_optimizer, other=self._other)
        machine.state.step = int(state["step"])
        if method:
            machine.load_own(own)

    def moved(self, number: int) -> float:
        """How far the model is from a snapshot: median over its matrices of ‖θ − θ_snapshot‖ / ‖θ_snapshot‖."""
        found = []
        with safe_open(self._path(number), framework="pt") as file:
            for name, parameter in trainable(self._machine.job.model).items():
                if parameter.ndim >= 2:  # one matrix at a time: no second copy of the model
                    then = file.get_tensor(f"weight/{name}")
                    found.append(float((parameter.detach().cpu() - then).norm() / then.norm().clamp(min=TINY)))
        return statistics.median(found) if found else 0.0

    def keep_only(self, numbers: Collection[int]) -> None:
        """Delete all other snapshots."""
        check_held_still(self._folder)
        for path in self._folder.glob(f"*{SUFFIX}"):
            if path.stem.isdigit() and int(path.stem) not in numbers:
                path.unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}{SUFFIX}"
