"""The order of the suite: what is long is begun first, so that no worker ends the run with it alone.

``pytest --dist worksteal`` gives each worker a part of the list, all parts one after the other and equally long; a
worker that has done its own takes from the end of another's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def dealt(
    items: Sequence[Item], workers: int, *, is_long: Callable[[Item], bool], file_of: Callable[[Item], Hashable]
) -> list[Item]:
    """Items in an order in which each worker's part begins with its share of the long ones; a file's stay together.

    >>> dealt(list("abCdEf"), 2, is_long=str.isupper, file_of=str)
    ['C', 'a', 'b', 'E', 'd', 'f']
    """
    files: dict[Hashable, list[Item]] = {}
    for item in filter(is_long, items):
        files.setdefault(file_of(item), []).append(item)
    first = list(files.values())
    others = [item for item in items if not is_long(item)]
    order: list[Item] = []
    for worker in range(workers):
        part = [item for file in first[worker::workers] for item in file]
        size = (len(items) - len(order)) // (workers - worker)
        taken = max(0, size - len(part))
        order += part + others[:taken]
        others = others[taken:]
    return order
