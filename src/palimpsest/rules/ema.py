"""EMA: what is measured and saved is an average of the weights over the steps; training itself goes on beside it.

Source: averaging of iterates, Polyak and Juditsky 1992; as exponential average of a tuned part in LAE, Gao et al. 2023,
arXiv:2303.10070.

    a_t = a_{t−1} + w_t (θ_t − a_{t−1}),   w_t = (1 − decay) / (1 − decay^t)      θ_t the weights after step t

So a_t is Σ_s decay^{t−s} θ_s / Σ_s decay^{t−s}, s = 1 … t: the start has no part in it. A check sees a_t and the next
step goes on from θ_t. Floating-point buffers, as running statistics, are averaged, too. One more copy of what moves,
two while the average is in its place.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from palimpsest.method_card import Config
from palimpsest.rules.averaged import DECIDES, Averaged


class EMAConfig(Config):
    """Options of the average."""

    decay: float = Field(default=0.9, ge=0, lt=1)
    """What is kept of the average at every step; over about 1 / (1 − decay) steps it forgets. 0 = the weights."""


def weight_of_newest(decay: float, step: int) -> float:
    """w_t, the part that the weights after step t have in the average.

    >>> weight_of_newest(0.9, 1), round(weight_of_newest(0.5, 2), 4)
    (1.0, 0.6667)
    """
    return (1 - decay) / (1 - decay**step)


class EMA(Averaged):
    """An average beside the weights, in their place whenever they are looked at."""

    Config = EMAConfig
    use_when = "the last steps of a run are noise: their average is saved"

    @classmethod
    def decides(cls, config: Any) -> str:
        """As ``slow_weights`` does."""
        return DECIDES

    @property
    def newest(self) -> float:
        """It forgets what is long ago."""
        return weight_of_newest(self.config.decay, self._taken)


RULE = EMA
