"""``palimpsest env``."""

from __future__ import annotations

import json as json_module

from palimpsest.cli import options as o


def command(json: o.Json = False) -> int:
    """Print versions and machine, for bug reports."""
    import torch

    from palimpsest.engine.outcome import environment

    found = environment(torch.get_num_threads())
    print(json_module.dumps(found, indent=1) if json else "\n".join(f"{k:14} {v}" for k, v in found.items()))
    return 0
