"""The plan of a hardening: all that decides which model comes out, and what names it. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from palimpsest import metrics
from palimpsest.engine.any_plan import NamedPlan
from palimpsest.engine.sections import Encoding, Measuring
from palimpsest.source import code_digest
from palimpsest.version import VERSION

EVERY_HARDENING = "palimpsest.engine.hardening"  # the module whose imports lead to all that it does


class HardeningPlan(NamedPlan):
    """All that defines a hardening; its digest names it."""

    kind: Literal["harden"] = "harden"
    """Told apart from a run's plan by it."""
    method: Literal["undo"] = "undo"
    """Noise, then distillation."""
    model: str
    """Folder or Hub name of the model that forgot."""
    revision: str | None = None
    """Commit of a Hub name."""
    files: dict[str, str]
    """Set -> file or Hub name."""
    alpha: float = Field(ge=0, le=1)
    """Share of the noise."""
    beta: float = Field(gt=0)
    """Its size."""
    epochs: float = Field(gt=0)
    """Passes over retain at most; it ends as soon as what stays is said as before."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Of AdamW, falling to 0; None = a twentieth of the size of the model's median matrix."""
    batch_size: int = Field(default=8, ge=1)
    """Rows of each set per step."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of noise and order."""
    encoding: Encoding = Encoding()
    """How rows become what the model takes."""
    measuring: Measuring = Measuring(metrics=("es", "ma"))
    """What is measured before and after."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Set or model -> SHA-256 of its content, filled in when the inputs were read."""

    def made_by(self) -> dict[str, str]:
        """The version and the digest of the code that this plan is run by."""
        return {"palimpsest": VERSION, "source": code_digest([EVERY_HARDENING], metrics.files())}
