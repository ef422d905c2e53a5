"""ε of client-level noise, where every client takes part in every round: exact, in closed form.

Source: Dong, Roth & Su 2019, "Gaussian Differential Privacy", arXiv:1905.02383: noise of z times the sensitivity is
1/z-GDP (theorem 1), T rounds of it, each chosen by what came of those before, are μ-GDP (corollary 2), and μ-GDP is
(ε, δ(ε)) for every ε (corollary 1); the last also Balle & Wang 2018, arXiv:1805.06083, theorem 8.

    μ = √T / z
    δ(ε) = Φ(−ε/μ + μ/2) − e^ε Φ(−ε/μ − μ/2)

Neighbours are two federations in one of which the changes of one client are nothing at all; how many clients answer is
no secret. Its share of a sum of changes of norms up to C is then C, and the noise of the sum is z C. Clients
are not sampled, so that sampling amplifies nothing. Rényi privacy gives a bound of the same (``renyi_bound``), by which
the search below begins.
"""

from __future__ import annotations

import math

DELTA = 1e-5
"""δ for which ε is told."""

_LARGEST = 500.0  # of what exp() is asked; beyond it the bound is told
_HALVINGS = 200


def delta_of(epsilon: float, mu: float) -> float:
    """δ(ε) of μ-GDP.

    >>> round(delta_of(0.0, 1.0), 6)
    0.382925
    """
    return _below(-epsilon / mu + mu / 2) - math.exp(epsilon) * _below(-epsilon / mu - mu / 2)


def renyi_bound(noise_multiplier: float, rounds: int, delta: float = DELTA) -> float:
    """ε by Rényi privacy of α T / 2 z² at every order α: ρ + 2 √(ρ ln 1/δ), ρ = T / 2 z².

    Source: Mironov 2017, arXiv:1702.07476, propositions 1, 3 and 7, at the best α.

    >>> round(renyi_bound(1.0, 1), 3)
    5.298
    """
    rho = rounds / (2 * noise_multiplier**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def client_epsilon(noise_multiplier: float, rounds: int, delta: float = DELTA) -> float:
    """The least ε of so many noisy rounds; rounded up by less than one in a million. Infinite without noise.

    Args:
        noise_multiplier: z, at least 0.
        rounds: T, at least 1.
        delta: in (0, 1).

    >>> round(client_epsilon(1.0, 1), 3), round(client_epsilon(2.0, 4), 3)
    (4.377, 4.377)
    """
    if noise_multiplier == 0:
        return math.inf
    mu, high = math.sqrt(rounds) / noise_multiplier, renyi_bound(noise_multiplier, rounds, delta)
    if high > _LARGEST:
        return high
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(middle, mu) <= delta else (middle, high)
        if high - low < 1e-7 * high:
            break
    return high


def _below(x: float) -> float:
    """Φ(x), also far below zero."""
    return math.erfc(-x / math.sqrt(2)) / 2
