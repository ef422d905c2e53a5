"""Where the n-grams of one text occur in another, exactly (no hashing), for all windows at once.

Shape legend: T tokens of a text, C other texts, W = T - n + 1 windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int


def last_starts(tokens_T: Int[np.ndarray, "T"], others_CT: Int[np.ndarray, "C T"], n: int) -> Int[np.ndarray, "C W"]:
    """Last start in ``tokens_T`` of the n-gram at each start of each other text; -1 where it does not occur.

    Args:
        tokens_T: the text that is searched, T >= n.
        others_CT: the texts whose windows are looked up.
        n: length of a window, >= 1.

    >>> last_starts(np.array([1, 2, 1, 2]), np.array([[1, 2, 2, 1]]), 2).tolist()
    [[2, -1, 1]]
    """
    text_1T = tokens_T[None, :]
    # Windows of length 2^k get a number each, equal numbers for equal windows; two of them make one of twice the
    # length, and two that overlap make any length in between.
    width, text_1W, others_CW = 1, *_number(text_1T, others_CT)
    while width < n:
        step = min(width, n - width)
        text_1W, others_CW = _number(_pair(text_1W, step, text_1T), _pair(others_CW, step, text_1T))
        width += step
    last = np.full(tokens_T.shape[0] + 1, -1)
    last[text_1W[0]] = np.arange(text_1W.shape[1])  # repeated indices: the last assignment stays
    last[-1] = -1
    return np.asarray(last[others_CW])


def _pair(numbers_CW: Int[np.ndarray, "C W"], step: int, text_1T: Int[np.ndarray, "1 T"]) -> Int[np.ndarray, "C V"]:
    """One key for the windows at s and s + step; -1 where one of them does not occur in the text."""
    left, right = numbers_CW[:, :-step], numbers_CW[:, step:]
    return np.where((left < 0) | (right < 0), -1, left * (text_1T.shape[1] + 1) + right)


def _number(
    text_1W: Int[np.ndarray, "1 W"], others_CW: Int[np.ndarray, "C W"]
) -> tuple[Int[np.ndarray, "1 W"], Int[np.ndarray, "C W"]]:
    """Replace keys by their rank among the keys of the text; -1 for keys that the text does not have."""
    keys, ranks = np.unique(text_1W, return_inverse=True)
    # One entry more than the largest key: a key of -1 finds it, and it stays -1.
    table = np.full(max(int(keys[-1]), int(others_CW.max(initial=0))) + 2, -1, dtype=np.int32)
    table[keys] = np.arange(len(keys))
    return ranks.reshape(text_1W.shape), np.asarray(table[others_CW], dtype=np.int64)
