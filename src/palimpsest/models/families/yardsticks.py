"""By what runs on a kind of models are judged, unless a plan says otherwise. Imports nothing, so that reports can."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Judging:
    """Metrics, by their names.

    Attributes:
        gated: of the default gates on the forget set; the first one is what retain must keep.
        known_by: say whether the forget set is still known; the first one decides at the floor.
        general: what general text or other images must keep; "" = perplexity.
    """

    gated: tuple[str, ...]
    known_by: tuple[str, ...]
    general: str = ""


BY_TOKENS = Judging(("es", "ma"), ("es", "ma"))
BY_CLASSES = Judging(("accuracy",), ("accuracy", "prob"), "accuracy")
