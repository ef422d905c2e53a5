"""``palimpsest env``: without torch, so it also answers where torch cannot be imported."""

from __future__ import annotations

import json as json_module
import os

from palimpsest.cli import options as o


def command(json: o.Json = False) -> int:
    """Print versions and machine, for bug reports."""
    from palimpsest.engine.versions import accelerators, versions

    machine = {"accelerators": ", ".join(accelerators()) or "none known", "cpus": str(os.cpu_count())}
    found = {**versions(), **machine}
    print(json_module.dumps(found, indent=1) if json else "\n".join(f"{k:14} {v}" for k, v in found.items()))
    return 0
