"""What runs here, as far as it can be told without importing it: torch alone would take seconds."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("palimpsest-ml", "torch", "transformers", "accelerate", "peft", "safetensors", "numpy")
NVIDIA = Path("/proc/driver/nvidia/gpus")  # one folder for each, with a file of "Key: value" lines


def versions() -> dict[str, str]:
    """Versions of what decides a number, and the machine; name -> value."""
    return {
        **{name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "timezone": time.tzname[0],
    }


def accelerators(drivers: Path = NVIDIA) -> list[str]:
    """Names of the NVIDIA GPUs that the driver of this machine knows; whether torch can use them, only torch knows.

    Args:
        drivers: folder in which the driver lists them.
    """
    found = []
    for path in sorted(drivers.glob("*/information")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found += [value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == "Model"]
    return found
