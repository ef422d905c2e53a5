"""Hooks that stand in a block, and are gone behind it whatever happened there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def hooked(hooks: Iterable[Any]) -> Iterator[None]:
    """Hooks, as torch hands them out, that are removed at the end of the block."""
    with ExitStack() as standing:
        for hook in hooks:
            standing.callback(hook.remove)
        yield


@contextmanager
def caught_inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """What enters a module in the passes of the block."""
    seen: list[Tensor] = []
    with hooked([module.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0]))]):
        yield seen
