"""The caller's process is as it was when a call of ours ends. Importing this imports no torch.

A run seeds three random generators, sets the number of threads, silences progress bars and makes an ``Accelerator``,
all of which belong to the whole process: the notebook around a verb would draw what the run's seed says, on one thread.
In the other direction what the notebook has set must not reach a run: no gradients, autocast, a default dtype or
device, an ``Accelerator`` of another precision.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

Restore = Callable[[], None]
_AUTOCAST = ("cpu", "cuda", "mps", "xpu")
_SHARED = "_shared_state"  # of the classes of accelerate.state: the __dict__ of all their instances


@contextmanager
def as_it_was() -> Iterator[None]:
    """Work in the block as in a new process, and leave the process as it was.

    May be nested, and entered from several threads: the first to enter notes how things are, the last to leave puts
    them back. What is not imported yet cannot be noted; enter again once it is.
    """
    with _own_modes():
        _PROCESS.enter()
        try:
            yield
        finally:
            _PROCESS.leave()


@contextmanager
def _own_modes() -> Iterator[None]:
    """With gradients, without autocast and on the CPU unless said otherwise: the modes of one thread."""
    torch = sys.modules.get("torch")
    with ExitStack() as stack:
        for mode in () if torch is None else _other_modes(torch):
            stack.enter_context(mode)
        yield


def _other_modes(torch: Any) -> list[Any]:
    """What undoes that which this thread has set. A mode costs time in every operation: only those that are needed."""
    modes: list[Any] = []
    if torch.is_inference_mode_enabled():
        modes.append(torch.inference_mode(mode=False))
    if not torch.is_grad_enabled():
        modes.append(torch.enable_grad())
    modes += [torch.autocast(kind, enabled=False) for kind in _AUTOCAST if torch.is_autocast_enabled(kind)]
    if torch.get_default_device().type != "cpu":
        modes.append(torch.device("cpu"))
    return modes


class _Process:
    """How things of the whole process were when the first of those who are inside entered."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._noted: dict[str, Restore] = {}

    def enter(self) -> None:
        """Note what is imported and not noted yet."""
        with self._lock:
            self._inside += 1
            for module, note in _NOTES.items():
                if module in sys.modules and module not in self._noted:
                    self._noted[module] = note()

    def leave(self) -> None:
        """Put everything back, if nobody else is inside."""
        with self._lock:
            self._inside -= 1
            while not self._inside and self._noted:
                _, restore = self._noted.popitem()
                restore()


def _random() -> Restore:
    state = random.getstate()
    return lambda: random.setstate(state)


def _numpy() -> Restore:
    import numpy as np

    state = np.random.get_state()
    return lambda: np.random.set_state(state)


def _torch() -> Restore:
    """Threads, default dtype and the generators of CPU and accelerator; a run has the usual dtype."""
    import torch

    threads, dtype, state, of_accelerator = (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.get_rng_state(),
        _accelerator_generators(torch),
    )
    torch.set_default_dtype(torch.float32)

    def restore() -> None:
        torch.set_rng_state(state)
        of_accelerator()
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    return restore


def _accelerator_generators(torch: Any) -> Restore:
    """Those of the accelerator, which is not woken for it: one that slept wakes with the seed of the CPU."""
    if not torch.accelerator.is_available():
        return lambda: None
    module = torch.get_device_module()
    every = "_all" if hasattr(module, "get_rng_state_all") else ""
    awake: Callable[[], bool] = getattr(module, "is_initialized", lambda: True)
    states = getattr(module, f"get_rng_state{every}")() if awake() else None

    def restore() -> None:
        if states is not None:
            getattr(module, f"set_rng_state{every}")(states)
        elif awake():
            getattr(module, f"manual_seed{every}")(torch.initial_seed())

    return restore


def _bars() -> Restore:
    """The progress bars of transformers and of the Hub."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    shown, hub_silent = logging.is_progress_bar_enabled(), are_progress_bars_disabled()

    def restore() -> None:
        if shown and not logging.is_progress_bar_enabled():
            logging.enable_progress_bar()
            if hub_silent:
                disable_progress_bars()

    return restore


def _accelerate() -> Restore:
    """What all Accelerators of a process share; a run has its own.

    The dicts are exchanged, not emptied: the caller's ``Accelerator`` keeps its own and works in a callback, too.
    """
    from accelerate.state import AcceleratorState, GradientState, PartialState

    kinds: tuple[Any, ...] = (PartialState, AcceleratorState, GradientState)
    shared = [vars(kind)[_SHARED] for kind in kinds]
    begun = PartialState._shared_state != {}
    for kind, held in zip(kinds, shared, strict=True):
        setattr(kind, _SHARED, type(held)())
    if begun:  # whoever logs by accelerate in a callback may go on
        import torch

        PartialState(cpu=not torch.accelerator.is_available())

    def restore() -> None:
        for kind, held in zip(kinds, shared, strict=True):
            setattr(kind, _SHARED, held)

    return restore


_NOTES: Mapping[str, Callable[[], Restore]] = {
    "random": _random,
    "numpy.random": _numpy,
    "torch": _torch,
    "transformers.utils.logging": _bars,
    "accelerate.state": _accelerate,
}
"""Module -> notes how its part of the process is, and says how to put it back."""
_PROCESS = _Process()
