"""Numbers of things in words."""

from __future__ import annotations


def so_many(number: float, thing: str) -> str:
    """A number and what it counts.

    >>> so_many(1, "step"), so_many(1000000, "step"), so_many(0.5, "second"), so_many(1.0, "second")
    ('1 step', '1000000 steps', '0.5 seconds', '1 second')
    """
    digits = str(number) if isinstance(number, int) else f"{number:g}"
    return f"{digits} {thing}" if number == 1 else f"{digits} {thing}s"
