"""How numbers are written in gates, verdicts and advice."""

from __future__ import annotations

import math


def show(value: float, *, signed: bool = False) -> str:
    """Two decimals, or three significant digits where two decimals would hide the size.

    >>> show(0.5), show(0.001), show(0.5, signed=True)
    ('0.50', '0.001', '+0.50')
    """
    sign = "+" if signed else ""
    plain = value == 0 or 0.01 <= abs(value) < 1000
    return f"{value:{sign}.2f}" if plain else f"{value:{sign}.3g}"


def interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """An interval in brackets behind a blank; empty when there is none.

    >>> interval(0.1, 0.25)
    ' [0.10, 0.25]'
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f" [{show(low, signed=signed)}, {show(high, signed=signed)}]"
