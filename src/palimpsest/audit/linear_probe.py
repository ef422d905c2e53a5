"""Is a class still in the features? A linear probe on what enters the head, scored on rows that it was not fitted to.

Source: logistic regression, every class weighed the same; of forgotten classes in the notes on LRA-NPP, whose edits
leave the features as they are.

    w, b   = argmin  |w|²/2 + sum_i s_i log(1 + exp(-y_i (w f_i + b))),   s_i = n / (2 n_y),  f standardised
    recall = share of held-out rows of the class with w f + b > 0;  false = the same of held-out other rows

Two folds: each half is scored by the probe that was fitted to the other one. In the span of the rows, where w lies,
it is a problem of as many unknowns as rows at most, solved by Newton's method from 0: nothing is drawn.

Shape legend: P rows of the class, M others, N both, D width, R rank.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

_STEPS, _CLOSE = 100, 1e-10
_SMALL = 1e-12


class Probed(NamedTuple):
    """What a probe finds.

    Attributes:
        recall: share of the class's held-out rows that it calls so.
        false: share of the other held-out rows that it calls so.
    """

    recall: float
    false: float


def probe(
    class_PD: Float[np.ndarray, "P D"],
    others_MD: Float[np.ndarray, "M D"],
    fold_P: Int[np.ndarray, "P"],
    fold_M: Int[np.ndarray, "M"],
) -> Probed | None:
    """Recall and false alarms over both folds; None where a fold has no row of one of the two.

    Args:
        class_PD: features of the class.
        others_MD: of all else.
        fold_P: 0 or 1: which half each is in.
        fold_M: the same.
    """
    if any((fold == half).sum() == 0 for fold in (fold_P, fold_M) for half in (0, 1)):
        return None
    called_P, called_M = np.zeros(len(class_PD), dtype=bool), np.zeros(len(others_MD), dtype=bool)
    for half in (0, 1):
        weight_D, bias = fit_probe(class_PD[fold_P != half], others_MD[fold_M != half])
        called_P[fold_P == half] = class_PD[fold_P == half] @ weight_D + bias > 0
        called_M[fold_M == half] = others_MD[fold_M == half] @ weight_D + bias > 0
    return Probed(float(called_P.mean()), float(called_M.mean()))


def fit_probe(
    class_PD: Float[np.ndarray, "P D"], others_MD: Float[np.ndarray, "M D"]
) -> tuple[Float[np.ndarray, "D"], float]:
    """Weight and bias of the probe, for features as they are.

    >>> weight, bias = fit_probe(np.array([[2.0, 0.0], [3.0, 1.0]]), np.array([[-2.0, 0.0], [-3.0, 1.0]]))
    >>> bool(weight[0] > 0), round(abs(float(weight[1])), 6), round(abs(bias), 6)
    (True, 0.0, 0.0)
    """
    features_ND = np.concatenate([class_PD, others_MD]).astype(np.float64)
    is_class_N = np.arange(len(features_ND)) < len(class_PD)
    middle_D, scale_D = features_ND.mean(0), features_ND.std(0)
    scale_D = np.where(scale_D > _SMALL, scale_D, 1.0)
    scaled_ND = (features_ND - middle_D) / scale_D
    left_NR, value_R, right_RD = np.linalg.svd(scaled_ND, full_matrices=False)
    theta = _newton(left_NR * value_R, is_class_N)
    weight_D = (theta[:-1] @ right_RD) / scale_D
    return weight_D, float(theta[-1] - weight_D @ middle_D)


def _newton(feature_NR: Float[np.ndarray, "N R"], is_class_N: Bool[np.ndarray, "N"]) -> Float[np.ndarray, "R1"]:
    """Weights and, last, the bias of the balanced logistic regression."""
    count, of_class = len(is_class_N), int(is_class_N.sum())
    sign_N = np.where(is_class_N, 1.0, -1.0)
    share_N = np.where(is_class_N, count / (2 * of_class), count / (2 * (count - of_class)))
    design = np.concatenate([feature_NR, np.ones((count, 1))], axis=1)
    penalty = np.ones(design.shape[1])
    penalty[-1] = 0.0

    def loss(theta: Float[np.ndarray, "R1"]) -> float:
        return float((penalty * theta**2).sum() / 2 + (share_N * np.logaddexp(0, -sign_N * (design @ theta))).sum())

    theta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        wrong_N = 1 / (1 + np.exp(np.clip(sign_N * (design @ theta), -500, 500)))
        gradient = penalty * theta - design.T @ (share_N * sign_N * wrong_N)
        curvature = design.T @ ((share_N * wrong_N * (1 - wrong_N))[:, None] * design)
        step = np.linalg.solve(np.diag(penalty + _SMALL) + curvature, gradient)
        size = 1.0
        while loss(theta - size * step) > loss(theta) and size > 1e-9:
            size /= 2
        theta = theta - size * step
        if np.abs(step).max() < _CLOSE:
            break
    return theta
