"""What a folder must know of the plan that it belongs to, and what plans of all kinds say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from palimpsest.engine.plan_record import plan_digest
from palimpsest.engine.sections import Section


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


class NamedPlan(Section):
    """Base of plans that their content and the code that carries them out name."""

    def digest(self) -> str:
        """SHA-256 over all of it but the places that inputs were read from, the version, and the code that decides."""
        return plan_digest(self.model_dump(mode="json"), self.made_by())

    def made_by(self) -> dict[str, str]:
        """The version and the digest of the code that this plan is run by."""
        raise NotImplementedError

    def written_down(self) -> dict[str, Any]:
        """What is written down of it: its digest, what that was taken over, and where its inputs were."""
        return {"digest": self.digest(), **self.made_by(), **self.model_dump(mode="json")}
