"""Peak memory of this process."""

from __future__ import annotations

import resource
import sys

import torch


def peak_bytes() -> int:
    """Highest memory so far: the accelerator's allocator where there is one, else the resident set size."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
