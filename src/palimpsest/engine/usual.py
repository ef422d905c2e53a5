"""The method of a verb where none is named: the one that docs/out_of_the_box.md says, per kind of model."""

from __future__ import annotations

from pathlib import Path

from palimpsest.models.sources import family_of


def usual_method(model: str | Path, revision: str | None = None) -> str:
    """Of ``unlearn``.

    Args:
        model: folder or Hub name.
        revision: commit of a Hub name.
    """
    return family_of(model, revision).method
