"""``palimpsest env``: without torch, so it also answers where torch cannot be imported."""

from __future__ import annotations

import json as json_module
import os

from palimpsest.cli import options as o
from palimpsest.cli.saying import tell, tell_json


def command(json: o.Json = False) -> int:
    """Print versions and machine, for bug reports."""
    from palimpsest.engine.versions import accelerators, versions

    machine = {"accelerators": ", ".join(accelerators()) or "none known", "cpus": str(os.cpu_count())}
    found = {**versions(), **machine}
    if json:
        tell_json(json_module.dumps(found, indent=1))
    else:
        tell("\n".join(f"{k:14} {v}" for k, v in found.items()))
    return 0
