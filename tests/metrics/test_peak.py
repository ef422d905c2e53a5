from __future__ import annotations

import numpy as np
import torch

from palimpsest.metrics.peak import PeakMemory


def test_sees_what_was_held_in_between():
    with PeakMemory(torch.device("cpu")) as quiet:
        pass
    with PeakMemory(torch.device("cpu")) as busy:
        block = np.ones(15_000_000)
        busy._stop.wait(0.1)
        del block
    assert busy.bytes - quiet.bytes > 100_000_000
