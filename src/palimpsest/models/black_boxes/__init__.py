"""Kinds of models that can only be asked: each is one file here, which sets ``BOX``, and is listed in ``all_boxes``.

A kind says how it is described and asked, what an answer must look like, how it looks to the rest of palimpsest (a
family of models), and how ``serve-model`` answers in its place. Ledger, budget, transport, retries, credentials and
probes are the same for all (``questions.py``, ``endpoint.py``, ``query_ledger.py``). Nothing here imports torch.
"""

from __future__ import annotations

from functools import cache

from palimpsest.errors import ModelError, unknown
from palimpsest.models.black_boxes.box import Box

__all__ = ["Box", "all_boxes", "box_named"]

DEFAULT = "image_classifier"
"""Of a description that names no kind."""


@cache
def all_boxes() -> tuple[Box, ...]:
    """All kinds, by name.

    >>> [box.name for box in all_boxes()]
    ['causal_lm', 'image_classifier', 'text_classifier']
    """
    from palimpsest.models.black_boxes import image_box, language_box, text_box

    # Imported, not looked up by name, so that the digest of a run covers their code.
    return (language_box.BOX, image_box.BOX, text_box.BOX)


def box_named(name: str) -> Box:
    """The kind of a name.

    Raises:
        ModelError: there is none.
    """
    kinds, said = {box.name: box for box in all_boxes()}, str(name)  # a file may say anything
    if said not in kinds:
        raise ModelError(unknown("kind of black box", said, kinds))
    return kinds[said]
