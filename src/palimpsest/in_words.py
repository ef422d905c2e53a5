"""How numbers are written wherever a person reads them: gates, verdicts, advice, and through the report every table.

One rule: two digits behind the point below 10, one below 100, none above. A third digit of a mean over a few dozen
examples says nothing.
"""

from __future__ import annotations

import math


def show(value: float, decimals: int = 2, *, signed: bool = False) -> str:
    """A value with so many decimals, fewer as it grows; below 100 000 never more than six characters for values >= 0.

    What rounds to nothing has no sign: a difference of -0.001 is written 0.00.

    >>> show(0.00842), show(0.5), show(12.345), show(123.45), show(1.25e9)
    ('0.01', '0.50', '12.3', '123', '1.2e9')
    >>> show(0.5, signed=True), show(-0.001, signed=True)
    ('+0.50', '0.00')
    """
    if not math.isfinite(value):
        return f"{value:g}"
    size = abs(value)
    sign = "+" if signed else ""
    if size >= 99999.5:
        mantissa, exponent = f"{value:{sign}.{1 if size < 9.5e9 else 0}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    places = _places(size, decimals)
    if float(f"{size:.{places}f}") == 0:
        return f"{0:.{places}f}"
    return f"{value:{sign}.{places}f}"


def _places(size: float, decimals: int) -> int:
    # Rounding decides the size: 9.996 is written as 10.0, not as 10.00.
    for step in range(decimals):
        if float(f"{size:.{decimals - step}f}") < 10 ** (step + 1):
            return decimals - step
    return 0


def exact(value: float) -> str:
    """A bound as it was chosen: at least two decimals, and as many as it has.

    >>> exact(0.1), exact(0.001), exact(1.1), exact(1500)
    ('0.10', '0.001', '1.10', '1500.00')
    """
    short = f"{value:.2f}"
    return short if float(short) == value else f"{value:.12g}"


def interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """An interval in brackets behind a blank; empty when there is none.

    >>> interval(0.1, 0.25)
    ' [0.10, 0.25]'
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f" [{show(low, signed=signed)}, {show(high, signed=signed)}]"


def so_many(number: float, thing: str) -> str:
    """A number and what it counts.

    >>> so_many(1, "step"), so_many(1000000, "step"), so_many(0.5, "second"), so_many(1.0, "second")
    ('1 step', '1000000 steps', '0.5 seconds', '1 second')
    """
    digits = str(number) if isinstance(number, int) else f"{number:g}"
    return f"{digits} {thing}" if number == 1 else f"{digits} {thing}s"
