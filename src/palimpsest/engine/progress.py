"""How a verb tells what it is doing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by verbs while they work."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Stage ``stage`` is ``done`` of ``total`` through; ``note`` is for people. A total of 0: ``stage`` is news."""


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Tell nothing."""
