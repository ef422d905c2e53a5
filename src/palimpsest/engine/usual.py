"""The method of a verb where none is named: the one that docs/out_of_the_box.md says, per kind of model."""

from __future__ import annotations

from pathlib import Path

from palimpsest.models.sources import is_image_model

UNLEARN_TEXTS = "icu"
UNLEARN_IMAGES = "salun"


def usual_method(model: str | Path, revision: str | None = None) -> str:
    """Of ``unlearn``.

    Args:
        model: folder or Hub name.
        revision: commit of a Hub name.
    """
    return UNLEARN_IMAGES if is_image_model(model, revision) else UNLEARN_TEXTS
