"""How numbers are written in tables and figures."""

from __future__ import annotations

import math

from palimpsest.in_words import show as written

NONE = "–"
"""What stands where there is no value."""


def show_or_dash(value: float | None, decimals: int = 2) -> str:
    """A value by the rule of ``in_words``, or a dash where there is none.

    >>> [show_or_dash(v) for v in (0.98, 0.00842, 12.345, 123.45, 12345.6, 1.25e9, None)]
    ['0.98', '0.01', '12.3', '123', '12346', '1.2e9', '–']
    """
    return NONE if value is None else written(value, decimals)


def interval_or_nothing(low: float | None, high: float | None, decimals: int = 2) -> str:
    """An interval in brackets; empty when there is none.

    >>> interval_or_nothing(0.951, 1.0)
    '[0.95, 1.00]'
    """
    return "" if low is None or high is None else f"[{show_or_dash(low, decimals)}, {show_or_dash(high, decimals)}]"


def percent(share: float) -> str:
    r"""A share in percent, one decimal below ten percent.

    >>> percent(0.02437).replace("\u00a0", " "), percent(1.559).replace("\u00a0", " ")
    ('2.4 %', '156 %')
    """
    value = 100 * share
    return f"{value:.{1 if value < 9.95 else 0}f}\u00a0%"


def several(number: int, thing: str) -> str:
    """A count with its noun.

    >>> several(1, "row"), several(18, "row")
    ('1 row', '18 rows')
    """
    return f"{count(number)} {thing}{'' if number == 1 else 's'}"


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
