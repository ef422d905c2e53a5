"""Highest memory in use during a piece of work."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil
import torch

_SECONDS_BETWEEN_SAMPLES = 0.02


class PeakMemory:
    """Context manager; afterwards ``bytes`` is the peak.

    On CUDA the allocator's own peak, which is reset on entry. Elsewhere the resident set size of this process, sampled
    50 times a second by a thread: shorter spikes can be missed, and it includes whatever else the process holds.
    """

    def __init__(self, device: torch.device) -> None:
        self.bytes = 0
        self._device = device
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._sample()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)
            return
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN_SAMPLES):
            self._sample()

    def _sample(self) -> None:
        self.bytes = max(self.bytes, self._process.memory_info().rss)
