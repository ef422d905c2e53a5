"""Membership inference by prediction entropy: how many forgotten examples still look like training data?

Source: as released with SFR-on (Huang et al. 2024, arXiv:2409.19732), after Chundawat et al. 2022, arXiv:2205.08096.

    H(x)   = - sum_v p(v | x) log p(v | x)                                      nats, the one feature
    w, b   = argmin  w²/2 + sum_i s_i log(1 + exp(-y_i (w H_i + b)))            y = +1 retained training, -1 test
             s_i = n / (2 n_y): both classes weigh the same
    MIA    = share of the forget set with w H + b > 0, called members

Neither higher nor lower is better: it is to be compared with the oracle's value. The released code writes the two
classes as two outputs, which halves the penalty on w; on hundreds of examples the penalty decides nothing.

Shape legend: N examples, M members, K non-members, F forget examples.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from palimpsest.errors import DataError
from palimpsest.metrics.per_set import bootstrap

SETS = MappingProxyType({"retain": "entropy", "test": "entropy", "forget": "entropy"})
"""Members, non-members, and what is in question, each with the metric that the attack looks at."""
_STEPS, _CLOSE = 100, 1e-10
_Values = Float[np.ndarray, "N"]


class Membership(NamedTuple):
    """What the attack says.

    Attributes:
        share: of the forget set called members.
        low: lower end of its 95 % bootstrap interval over the forget examples; None for fewer than two.
        high: upper end.
        n: forget examples.
        power: balanced accuracy on the members and non-members it was fitted to; 0.5 tells nothing.
    """

    share: float
    low: float | None
    high: float | None
    n: int
    power: float


def mia_entropy(members: _Values, nonmembers: _Values, forget: _Values, *, seed: int = 0) -> Membership:
    """The attack on one model, from the prediction entropies of three sets.

    Args:
        members: of retained training examples, (M,), nats.
        nonmembers: of test examples, (K,).
        forget: of the examples that were to be forgotten, (F,).
        seed: of the bootstrap.

    Raises:
        DataError: an empty set, or an entropy that is no finite number.
    """
    for name, values in (("members", members), ("nonmembers", nonmembers), ("forget", forget)):
        if not len(values) or not np.isfinite(values).all():
            raise DataError(f"{name} has {len(values)} entropies; accepted: at least one, all finite numbers")
    weight, bias = fit_balanced(members, nonmembers)
    called_F = (weight * np.asarray(forget) + bias > 0).astype(np.float64)
    hits = np.mean(weight * members + bias > 0), np.mean(weight * nonmembers + bias <= 0)
    return Membership(float(called_F.mean()), *bootstrap(called_F, seed=seed), len(called_F), float(np.mean(hits)))


def fit_balanced(members: _Values, nonmembers: _Values) -> tuple[float, float]:
    """Weight and bias of the class-balanced logistic regression above, by Newton's method.

    Args:
        members: feature of class +1, (M,).
        nonmembers: feature of class -1, (K,).

    >>> weight, bias = fit_balanced(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
    >>> weight < 0, round(-bias / weight, 6)
    (True, 1.5)
    """
    count = len(members) + len(nonmembers)
    feature_N = np.concatenate([members, nonmembers]).astype(np.float64)
    sign_N = np.repeat([1.0, -1.0], [len(members), len(nonmembers)])
    share_N = np.repeat([count / (2 * len(members)), count / (2 * len(nonmembers))], [len(members), len(nonmembers)])
    design_N2 = np.stack([feature_N, np.ones(count)], axis=1)
    penalty_2 = np.array([1.0, 0.0])

    def loss(theta_2: _Values) -> float:
        return float(theta_2[0] ** 2 / 2 + (share_N * np.logaddexp(0, -sign_N * (design_N2 @ theta_2))).sum())

    theta_2 = np.zeros(2)
    for _ in range(_STEPS):
        wrong_N = 1 / (1 + np.exp(np.clip(sign_N * (design_N2 @ theta_2), -500, 500)))  # 1 - p(own class)
        gradient_2 = penalty_2 * theta_2 - design_N2.T @ (share_N * sign_N * wrong_N)
        curvature_N = share_N * wrong_N * (1 - wrong_N)
        hessian_22 = np.diag(penalty_2) + design_N2.T @ (curvature_N[:, None] * design_N2)
        step_2 = np.linalg.solve(hessian_22 + 1e-12 * np.eye(2), gradient_2)
        size = 1.0
        while loss(theta_2 - size * step_2) > loss(theta_2) and size > 1e-9:
            size /= 2
        theta_2 = theta_2 - size * step_2
        if np.abs(step_2).max() < _CLOSE:
            break
    return float(theta_2[0]), float(theta_2[1])
