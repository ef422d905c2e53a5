"""The plan of a calibration: all that decides which model comes out, and what names it. No torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from palimpsest import metrics
from palimpsest.engine.any_plan import NamedPlan
from palimpsest.engine.sections import Encoding
from palimpsest.source import code_digest
from palimpsest.version import VERSION

EVERY_CALIBRATION = "palimpsest.engine.calibrating"  # the module whose imports lead to all that it does


class CalibrationPlan(NamedPlan):
    """All that defines a calibration; its digest names it."""

    kind: Literal["calibrate"] = "calibrate"
    """Told apart from a run's plan by it."""
    method: Literal["mixing"] = "mixing"
    """How a model between two others is made."""
    model: str
    """Folder or Hub name of the model before."""
    after: str
    """Folder or Hub name of the model that was made from it."""
    revision: str | None = None
    """Commit of a Hub name."""
    files: dict[str, str]
    """"retain" and, if given, "forget" -> file or Hub name."""
    metric: str
    """What is to be kept."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The metric's own."""
    tau: float
    """Share of its value before."""
    tolerance: float
    """The share of the change that is found may be so much too small."""
    limit: int
    """At most so many rows of a set are asked, drawn with the seed."""
    seed: int = 0
    """Of that draw."""
    encoding: Encoding = Encoding()
    """How rows become what the model takes."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Set or model -> SHA-256 of its content, filled in when the inputs were read."""

    def made_by(self) -> dict[str, str]:
        """The version and the digest of the code that this plan is run by."""
        return {"palimpsest": VERSION, "source": code_digest([EVERY_CALIBRATION], metrics.files())}
