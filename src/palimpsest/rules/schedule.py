"""Annealing of the ascent: the factor s_k that takes forgetting from full strength to nothing.

    cosine    s_k = (1 + cos(pi k / K)) / 2        linear    s_k = 1 - k / K        constant    s_k = 1
    in steps that lie in the last 5 % of K: s_k = 0

Constant ascent does not end at the oracle but at argmin L_R - kappa L_U: it forgets too much. The weight of what is
forgotten has to reach 0, and repair has to have the last word.

Source: the ancestor SFR-on, arXiv:2409.19732: linear in its figure, cosine in its code.
Departs from the paper: its last steps still ascend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from palimpsest.errors import PlanError, unknown

Annealing = Literal["cosine", "linear", "constant"]


def cosine(step: int, planned: int) -> float:
    """(1 + cos(pi k / K)) / 2: 1 at step 0, 0 at ``planned``; summed over steps 0 to K-1 it gives (K + 1) / 2."""
    return (1 + math.cos(math.pi * step / planned)) / 2


def linear(step: int, planned: int) -> float:
    """1 - k / K: 1 at step 0, 0 at ``planned``; summed over steps 0 to K-1 it gives (K + 1) / 2."""
    return 1 - step / planned


def constant(step: int, planned: int) -> float:
    """1 at every step: over-forgets, for ablations."""
    return 1.0


ANNEALINGS: Mapping[str, Callable[[int, int], float]] = {"cosine": cosine, "linear": linear, "constant": constant}


def ascent_scale(kind: str, step: int, planned: int, stop_share: float = 0.05) -> float:
    """Factor of the ascent at a step.

    Args:
        kind: one of ``ANNEALINGS``.
        step: k, from 0.
        planned: K >= 1, steps of the whole run.
        stop_share: share of the run at its end without any ascent, in [0, 1]; the ancestor has 0.

    Returns:
        s_k in [0, 1]; exactly 0 in the last ``stop_share`` of the steps and from ``planned`` on.

    Raises:
        PlanError: the kind is unknown.

    >>> [ascent_scale("linear", step, 20) for step in (0, 10, 18, 19, 20)]
    [1.0, 0.5, 0.09999999999999998, 0.0, 0.0]
    """
    if kind not in ANNEALINGS:
        raise PlanError(unknown("annealing", kind, ANNEALINGS))
    steps_left = planned - step
    if steps_left <= stop_share * planned + 1e-9:  # the share of a whole number of steps may be a rounding error short
        return 0.0
    return ANNEALINGS[kind](step, planned)
