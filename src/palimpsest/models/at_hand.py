"""Modules in memory whose class is in no file: whose they are while a call runs. Importing this imports no torch.

A folder of such a module holds weights and says whose they are. No code and no pickle is in it, so what is loaded from
it is laid into a copy of the module that the caller holds; where nobody holds it, the folder is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.errors import ModelError

CUSTOM = "palimpsest_custom"
"""The model_type of their folders."""
NOTE = "how_to_load.txt"
_MODULES: ContextVar[Mapping[str, Any] | None] = ContextVar("modules at hand", default=None)


@dataclass(frozen=True)
class CustomFacts:
    """What the code of a module does not say.

    Attributes:
        num_outputs: classes, or tokens of the vocabulary.
        image_size: height and width of its images, pixels; None for a causal LM.
        image_mean: subtracted from each channel of an image in [0, 1].
        image_std: what the difference is divided by.
        max_length: most tokens that it takes; None where that is not known.
        head: name of the linear layer that its outputs leave; None where there is none.
    """

    num_outputs: int
    image_size: tuple[int, int] | None = None
    image_mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    image_std: tuple[float, ...] = (1.0, 1.0, 1.0)
    max_length: int | None = None
    head: str | None = None


@contextmanager
def at_hand(modules: Mapping[str, Any]) -> Iterator[None]:
    """In the block, folders of these modules can be loaded.

    Args:
        modules: role ("model", "base", "oracle") -> module.
    """
    token = _MODULES.set({**(_MODULES.get() or {}), **modules})
    try:
        yield
    finally:
        _MODULES.reset(token)


def module_at_hand(config: Mapping[str, Any], source: str | Path) -> Any:
    """The module that a folder holds the weights of.

    Args:
        config: content of its config.json.
        source: the folder, for the error.

    Raises:
        ModelError: nobody holds one.
    """
    found = (_MODULES.get() or {}).get(str(config.get("held_as")))
    if found is None:
        raise ModelError(
            f"model {source}: holds the weights of a {config.get('module_class')} and not its code, which is never run "
            f"from a folder; build the module in Python and lay them into it, as {NOTE} there says"
        )
    return found


def check_at_hand(config: Mapping[str, Any], source: str | Path) -> None:
    """Refuse a folder of a module that nobody holds; any other passes.

    Raises:
        ModelError: it is one.
    """
    if config.get("model_type") == CUSTOM:
        module_at_hand(config, source)


def lacks_head(config: Mapping[str, Any]) -> bool:
    """Is it the folder of a module without a linear layer that its outputs leave?"""
    return config.get("model_type") == CUSTOM and config.get("head") is None
