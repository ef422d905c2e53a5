"""How numbers are written in tables and figures."""

from __future__ import annotations

import math

NONE = "–"
"""What stands where there is no value."""


def show(value: float | None, decimals: int = 3) -> str:
    """A value with so many decimals, fewer as it grows, never more than six characters for values >= 0.

    >>> [show(v) for v in (0.98, 12.345, 123.45, 12345.6, 1.25e9, None)]
    ['0.980', '12.35', '123.5', '12346', '1.2e9', '–']
    >>> show(0.98, 2)
    '0.98'
    """
    if value is None:
        return NONE
    if not math.isfinite(value):
        return f"{value:g}"
    size = abs(value)
    if size >= 99999.5:
        mantissa, exponent = f"{value:.{1 if size < 9.5e9 else 0}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    # Rounding decides the size: 9.9996 is written as 10.00, not as 10.000.
    for step in range(decimals):
        if float(f"{size:.{decimals - step}f}") < 10 ** (step + 1):
            return f"{value:.{decimals - step}f}"
    return f"{value:.0f}"


def interval(low: float | None, high: float | None, decimals: int = 3) -> str:
    """An interval in brackets; empty when there is none.

    >>> interval(0.951, 1.0, 2)
    '[0.95, 1.00]'
    """
    return "" if low is None or high is None else f"[{show(low, decimals)}, {show(high, decimals)}]"


def count(value: int) -> str:
    r"""A count with thin spaces between thousands.

    >>> count(1234567).replace("\u202f", " ")
    '1 234 567'
    """
    return f"{value:,}".replace(",", "\u202f")


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten that is >= value; 1 for value <= 0.

    >>> nice_ceiling(5.2), nice_ceiling(0.031), nice_ceiling(100)
    (6.0, 0.04, 100.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
    # The slack keeps 100 from becoming 150 when the logarithm is a digit short.
    return next(float(f"{step * power:.6g}") for step in steps if step * power >= value * (1 - 1e-9))
