"""What ``Model.of`` is told about a module, checked before any of it is used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from palimpsest.data.read.contents import shown
from palimpsest.errors import ModelError
from palimpsest.models.at_hand import CustomFacts


def check_savable(module: Any, tokenizer: Any, processor: Any) -> None:
    """Refuse what is no model of transformers, or no companion of one.

    Raises:
        ModelError: says which, and what is accepted in its place.
    """
    from torch import nn

    for name, part in (("module", module), ("tokenizer", tokenizer), ("processor", processor)):
        if (part is not None or name == "module") and not hasattr(part, "save_pretrained"):
            own = "; of a module of your own say num_outputs, and image_size where it takes images"
            raise ModelError(
                f"{name} is a {type(part).__name__}; accepted: what has save_pretrained, as models and tokenizers "
                f"of transformers and PEFT models have{own if name == 'module' else ''}"
            )
        if isinstance(part, nn.Module) is not (name == "module") and part is not None:
            raise ModelError(f"{name} is a {type(part).__name__}; accepted: pal.Model.of(module, tokenizer)")
    from palimpsest.models.custom_probe import check_weights_are_there

    check_weights_are_there(module)


def check_has_tokenizer(module: Any, tokenizer: Any) -> None:
    """Refuse a language model of transformers whose tokenizer was not given.

    Raises:
        ModelError: it was not.
    """
    if tokenizer is None and getattr(module, "main_input_name", "pixel_values") != "pixel_values":
        raise ModelError(
            f"the {type(module).__name__} in memory has no tokenizer; give it, too: pal.Model.of(module, tokenizer)"
        )


def facts_of(
    num_outputs: Any, image_size: Any, image_mean: Any, image_std: Any, max_length: Any, *, tokenizer: Any
) -> CustomFacts:
    """What was said of a module of one's own, if it can be so.

    Raises:
        ModelError: it cannot.
    """
    for name, value in (("num_outputs", num_outputs), ("max_length", max_length)):
        if isinstance(value, bool) or not isinstance(value, int | None) or (value is not None and value < 1):
            what = "how many classes or tokens it tells apart" if name == "num_outputs" else "the most tokens it takes"
            raise ModelError(f"{name} is {shown(value)}; accepted: {what}")
    mean, std = _channels(image_mean, "image_mean"), _channels(image_std, "image_std")
    if len(mean) != len(std):
        raise ModelError(f"image_mean has {len(mean)} numbers and image_std {len(std)}; accepted: one per channel")
    if min(std) <= 0:
        raise ModelError(f"image_std is {shown(image_std)}; accepted: numbers above 0, which images are divided by")
    facts = CustomFacts(num_outputs, _size(image_size), mean, std, max_length)
    _check_tokenizer(tokenizer, takes_images=facts.image_size is not None)
    return facts


def _channels(given: Any, name: str) -> tuple[float, ...]:
    """A number for each channel."""
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else []
    if not several or not all(map(_is_number, several)):
        raise ModelError(f"{name} is {shown(given)}; accepted: one number per channel, such as (0.5, 0.5, 0.5)")
    return tuple(map(float, several))


def _is_number(value: Any) -> bool:
    """Is it a finite number of Python, NumPy or torch?"""
    plain = value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value
    return isinstance(plain, Real) and not isinstance(plain, bool) and math.isfinite(plain)


def _size(given: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width."""
    if given is None:
        return None
    sides = tuple(given) if isinstance(given, Iterable) else (given, given)
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise ModelError(f"image_size is {shown(given)}; accepted: a number of pixels, or height and width")
    return sides[0], sides[1]


def _check_tokenizer(tokenizer: Any, *, takes_images: bool) -> None:
    if takes_images and tokenizer is not None:
        raise ModelError("tokenizer and image_size were both given; accepted: the one that the module takes")
    if not takes_images and not hasattr(tokenizer, "save_pretrained"):
        raise ModelError(
            f"tokenizer is {'missing' if tokenizer is None else f'a {type(tokenizer).__name__}'}; accepted: the "
            "tokenizer of a causal LM, as transformers has it; or image_size for a module that takes images"
        )
