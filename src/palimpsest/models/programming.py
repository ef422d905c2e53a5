"""What an input program is made for: where the images sit in their frame, and what a model says before it.

Shape legend: B images, N examples, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from palimpsest.models.modes import asked
from palimpsest.models.padded import GREY
from palimpsest.models.parts import off, parts_of
from palimpsest.models.parts.program import Program, ProgramConfig

_AT_ONCE = 256
Place = tuple[int, int, int, int]


def inner_place(images_NHWC: UInt8[Tensor, "N H W C"]) -> Place | None:
    """The smallest rectangle outside of which all images are the same; None where that is everything or nothing.

    >>> images = torch.full((2, 3, 4, 1), 128, dtype=torch.uint8)
    >>> images[1, 1, 2] = 7
    >>> inner_place(images)
    (1, 2, 2, 3)
    """
    varies_HW = (images_NHWC != images_NHWC[:1]).any(0).any(-1)
    rows, columns = varies_HW.any(1).nonzero().flatten(), varies_HW.any(0).nonzero().flatten()
    if not len(rows):
        return None
    place = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    height, width = varies_HW.shape
    return None if (place[2] - place[0], place[3] - place[1]) == (height, width) else place


def program_for(images: Any, *, framed: bool, seed: int) -> Program:
    """A program of zeros for a set of images.

    Args:
        images: an ``ImageSet``.
        framed: around the images where there is room; False = over all of them.
        seed: of the run.
    """
    height, width, channels = images.pixels.shape
    levels = torch.tensor([1, GREY, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 1, 1, channels)
    low_C, grey_C, high_C = images.pixels.normalise(levels)[:, :, 0, 0]
    config = ProgramConfig(
        height=height,
        width=width,
        grey=tuple(grey_C.tolist()),
        reach=tuple(((high_C - low_C) / 2).tolist()),
        inner=inner_place(images.images_NHWC) if framed else None,
        seed=seed,
    )
    return Program(config)


def said_of(model: nn.Module, program: Program, images: Any) -> Float[Tensor, "N K"]:
    """Logits of a model for a set of images with a program on each, in the order of the set; on the CPU.

    Args:
        model: with or without parts; those of earlier runs act.
        program: attached or not; it acts once.
        images: an ``ImageSet``.
    """
    device = next(model.parameters()).device
    attached = [part for part in parts_of(model) if part is program]
    program.to(device)
    found = []
    with asked(model), off(model, attached):
        for start in range(0, len(images), _AT_ONCE):
            batch = images.plain().batch(images.ids[start : start + _AT_ONCE]).to(device)
            found.append(model(pixel_values=program.laid_on(batch.images_BCHW)).logits.float().cpu())
    return torch.cat(found)


def mapped_accuracy(model: nn.Module, program: Program, images: Any) -> float:
    """Of a model with its map, before its program has learned anything.

    Args:
        model: with the parts of the run.
        program: of these.
        images: an ``ImageSet`` of the task.
    """
    with torch.no_grad():
        kept = program.program_D.detach().clone()
        program.program_D.zero_()
        try:
            said_NK = said_of(model, program, images)
        finally:
            program.program_D.copy_(kept)
    return float((said_NK.argmax(1) == images.label_N.cpu()).double().mean())
