"""What a folder must know of the plan that it belongs to, and what plans of every kind say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class AnyPlan(Protocol):
    """What a folder must know of the plan that it belongs to: of a run, or of a calibration."""

    @property
    def digests(self) -> Mapping[str, str]:
        """Set or model -> digest of its content; empty until they were read."""

    def digest(self) -> str:
        """Names what comes out."""

    def written_down(self) -> dict[str, Any]:
        """What is written down of it."""

    def model_dump(self, *, mode: str = ..., exclude: Any = ...) -> dict[str, Any]:
        """Its fields."""
