"""Pictures that a model does not take as they are. Importing this imports no torch."""

from __future__ import annotations

from palimpsest.errors import DataError

PictureShape = tuple[int, int, int]
"""Height, width, channels."""


def refuse_channels(found: PictureShape, wanted: PictureShape) -> None:
    """Refuse another number of channels than a model takes.

    Raises:
        DataError: says both.
    """
    if found[2] != wanted[2]:
        raise DataError(
            f"{found[2]} channel{'s' if found[2] > 1 else ''}; accepted: {wanted[2]}, as many as the model takes"
        )


def refuse_size(found: PictureShape, wanted: PictureShape) -> None:
    """Refuse another size than that of a model whose format does not say how to resize.

    Raises:
        DataError: says both.
    """
    if found[:2] != wanted[:2]:
        raise DataError(
            f"{found[0]}x{found[1]} pixels; accepted: {wanted[0]}x{wanted[1]}, the model's size; resize the image"
        )
