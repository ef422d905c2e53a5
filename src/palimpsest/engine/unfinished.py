"""What an unfinished run has kept, in words, for whoever stopped it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from palimpsest.control.hands import CONTROL
from palimpsest.engine.output import CHECKPOINT, TRAINED
from palimpsest.errors import Interrupted
from palimpsest.in_words import so_many
from palimpsest.models.sealed_json import read_sealed
from palimpsest.untrusted import parse_json


@contextmanager
def told_how_far(partial: Path) -> Iterator[None]:
    """Have Ctrl-C in the block say what is kept, as soon as there is a folder.

    Args:
        partial: folder of the run.

    Raises:
        Interrupted: the block was stopped.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if not partial.exists():
            raise
        told = Interrupted(how_far(partial))
        told.reached = reached(partial).partition(";")[0]
        raise told from stop


def how_far(partial: Path) -> str:
    """How far a run got, where it lies, and how to see what it holds of the rows."""
    look = f"palimpsest clean {shlex.quote(str(partial))}"
    return f"{reached(partial)}; the unfinished run lies in {partial} ({look} shows what it holds)"


def reached(partial: Path) -> str:
    """How far a run got, such as "after 12 steps"."""
    try:
        steps, ended = _steps(partial)
    except (LookupError, TypeError, ValueError):  # damaged: whoever goes on will be told
        steps, ended = 0, False
    if (partial / "remembered" / "after.json").is_file():
        return "after training and the measuring after it"
    if ended:
        return f"after all of training ({so_many(steps, 'step')})"
    if steps:
        return f"after {so_many(steps, 'step')}"
    rounds = len(list((partial / "companion" / "rounds").glob("round-*/round.json")))
    if rounds:
        return f"after {so_many(rounds, 'round')}"
    if (partial / "remembered" / "before.json").is_file():
        return "before the first step; what was measured before is kept"
    return "before anything was measured"


def _steps(partial: Path) -> tuple[int, bool]:
    """Steps that are written down, and whether they were the last."""
    trained = _json(partial / TRAINED)
    if trained:
        return int(trained.get("ended", trained)["steps"]), True
    state = _json(partial / CONTROL / "state.json")
    if state:
        return int(state["iterations"]) + int(state["repair_steps"]), state["stage"] == "ended"
    try:
        with safe_open(partial / CHECKPOINT, framework="pt") as file:
            state = parse_json(file.metadata()["state"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return 0, False
    return int(state["step"]), state["stopped"] is not None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_sealed(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
