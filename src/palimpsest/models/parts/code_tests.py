"""Is a code one of a topic? Counts of rows in which it fires, with the topic and without, and what they say.

Source: "CodeUnlearn", ICLR 2025 submission, its retrieval of codes; known from notes on the paper, not from its text.

    R(k) = log2( (f_T(k) + e) / (f_~T(k) + e) )                 f: rows in which code k fires
    χ²(k) = n (ad − bc)² / ((a+b)(c+d)(a+c)(b+d))               a, b fire / not with the topic; c, d without it
    k is of the topic  if  R(k) ≥ r  and  p(χ²) < significance / codes tested  (Bonferroni)

Where the two kinds of rows are not equally many, f_~T is scaled to as many as those with the topic. A code is tested
where it fires in ``least`` rows of both kinds together and stays out of as many: the distribution of χ² is that of many
counts.

Shape legend: K codes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Firing(NamedTuple):
    """Counts of a topic and of its control.

    Attributes:
        with_K: rows with the topic in which each code fires.
        rows_with: rows with the topic.
        without_K: rows without it in which each code fires.
        rows_without: rows without it.
    """

    with_K: Int[Tensor, "K"]
    rows_with: int
    without_K: Int[Tensor, "K"]
    rows_without: int


class Found(NamedTuple):
    """What the counts say of each code.

    Attributes:
        enrichment_K: R, bits.
        p_K: of the χ² test, 1 where it was not tested.
        tested_K: were there counts enough?
        of_topic_K: is it one?
    """

    enrichment_K: Float[Tensor, "K"]
    p_K: Float[Tensor, "K"]
    tested_K: Bool[Tensor, "K"]
    of_topic_K: Bool[Tensor, "K"]


def enrichment(counts: Firing, pseudo: float) -> Float[Tensor, "K"]:
    """R(k), bits.

    >>> enrichment(Firing(torch.tensor([7, 1]), 8, torch.tensor([1, 1]), 8), 1.0).tolist()
    [2.0, 0.0]
    """
    scale = counts.rows_with / counts.rows_without
    found: Tensor = torch.log2((counts.with_K.double() + pseudo) / (counts.without_K.double() * scale + pseudo))
    return found


def chi_square(counts: Firing) -> Float[Tensor, "K"]:
    """χ² of the 2 × 2 tables, without a correction for continuity; 0 where a margin is empty.

    >>> chi_square(Firing(torch.tensor([8]), 10, torch.tensor([2]), 10)).round(decimals=4).tolist()
    [7.2]
    """
    a, c = counts.with_K.double(), counts.without_K.double()
    b, d = counts.rows_with - a, counts.rows_without - c
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    rows = counts.rows_with + counts.rows_without
    found: Tensor = rows * (a * d - b * c) ** 2 / margins.where(margins > 0, torch.inf)
    return found


def p_value(chi_square_K: Float[Tensor, "K"]) -> Float[Tensor, "K"]:
    """Probability of so large a χ² or larger at one degree of freedom: erfc(√(χ² / 2)).

    >>> round(p_value(torch.tensor([3.841459])).item(), 4)
    0.05
    """
    found: Tensor = torch.special.erfc((chi_square_K.double() / 2).sqrt())
    return found


def codes_of_topic(counts: Firing, *, min_enrichment: float, significance: float, least: int, pseudo: float) -> Found:
    """Which codes are of the topic, and what was looked at.

    Args:
        counts: of the topic and its control.
        min_enrichment: r, bits.
        significance: chance of at least one code that is not of the topic; 1 = no test.
        least: rows of both kinds together in which a tested code fires, and in which it does not.
        pseudo: e, rows.
    """
    fires_K = counts.with_K + counts.without_K
    tested_K = (fires_K >= least) & (counts.rows_with + counts.rows_without - fires_K >= least)
    p_K = torch.where(tested_K, p_value(chi_square(counts)), 1.0)
    enrichment_K = enrichment(counts, pseudo)
    is_rich_K = (enrichment_K >= min_enrichment) & (counts.with_K > 0)
    level = significance / max(1, int(tested_K.sum()))
    sure_K = p_K < level if significance < 1 else torch.ones_like(tested_K)
    return Found(enrichment_K, p_K, tested_K, is_rich_K & sure_K)


def ranked(counts: Firing, found: Found) -> Int[Tensor, "M"]:
    """The codes that fire more often with the topic, by the effect size of their tables, φ = √(χ² / n), largest first.

    >>> counts = Firing(torch.tensor([2, 8, 0]), 10, torch.tensor([0, 2, 3]), 10)
    >>> ranked(counts, codes_of_topic(counts, min_enrichment=1, significance=1, least=1, pseudo=0.5)).tolist()
    [1, 0]
    """
    order: Tensor = chi_square(counts).argsort(descending=True, stable=True)
    return order[found.enrichment_K[order] > 0]


def best_of(found: Found) -> str:
    """The code that came nearest, in words."""
    k = int(found.enrichment_K.argmax())
    p = float(found.p_K[k])
    said = "not tested, its counts are too low" if not bool(found.tested_K[k]) else f"p = {p:.1g}"
    value = float(found.enrichment_K[k])
    return f"the richest one has log2 R = {value if math.isfinite(value) else 0:.2f}, {said}"
