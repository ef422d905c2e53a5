"""What a metric is given and what it must provide. Neither this file nor a metric imports torch.

Shape legend: T tokens of one example, S its label tokens, C chains (below), N examples.

A metric says what it asks of a model (``asks``) and is given that, for all metrics together in one pass over the
examples. It turns the facts about one example into two sums, its *statistics* (``update``), and the statistics of many
examples into a score (``compute``). So examples may come in any batches and any order.

What is computed from several sets, or along a stream of requests, has a tier of its own: ``per_set``, ``per_stream``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import ConfigDict

from palimpsest.chosen import Chosen
from palimpsest.metrics.statistics import bootstrap, single_sum
from palimpsest.records import Direction, Score

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Ask(Enum):
    """What a metric may ask for. ``evaluate`` serves those that some metric needs; of the others it says so."""

    TEACHER = "one teacher-forced pass"
    LIKELIHOOD = "log-likelihoods of what is right"
    MOMENTS = "moments of the prediction over the vocabulary"
    GREEDY = "greedy continuations"
    GENERATED = "generated text"
    HIDDEN = "hidden states"
    GRADIENT = "gradients"
    BESIDE = "a second model beside the measured one"
    SECOND_SET = "a second set of examples"


class Options(Chosen):
    """Base of every metric's option schema: frozen, unknown options refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Greedy:
    """Greedy continuations of the prefixes of one example, in chains.

    While the arg-max is right, the continuation of one prefix is the right token followed by the continuation of the
    next prefix. A *chain* is a run of prefixes that share one continuation in this way; it ends where the arg-max is
    wrong, or where it is right and ends the generation.

    Attributes:
        ends_C: length of the longest prefix of each chain, ascending. Chain c holds the prefixes longer than
            ``ends_C[c - 1]`` and not longer than ``ends_C[c]``; prefixes longer than all continue as the text does.
        tokens_CT: the longest prefix of each chain with its continuation, up to the length of the text; -1 where a
            token was not decoded because it cannot change any count.
    """

    ends_C: Int[np.ndarray, "C"]
    tokens_CT: Int[np.ndarray, "C T"]


class Moments(NamedTuple):
    """What the whole prediction says at each scored position, of one log-softmax in fp32.

    Attributes:
        logp_S: log-probability of what is right, nats.
        entropy_S: -sum_v p(v) log p(v), nats.
    """

    logp_S: Float[np.ndarray, "S"]
    entropy_S: Float[np.ndarray, "S"]


@dataclass(frozen=True)
class Facts:
    """What a model says about one example. What not every pass gives is there only when a metric asked for it.

    Attributes:
        tokens_T: the example; of an image, or a text with a label, its class; of a completion that a decoder writes for
            a prompt of its encoder, the completion.
        scored_S: positions of its label tokens, ascending, all >= 1 where one text holds them all; of a class 0.
        right_S: is the teacher-forced arg-max at each of them right?
        logp_S: log-probability of each of them, nats.
        ends_with_eos: is the last label token an end-of-sequence token?
        greedy: continuations of its prefixes (``Ask.GREEDY``).
        moments: of the predictions over the vocabulary (``Ask.MOMENTS``; ``Ask.LIKELIHOOD`` for ``logp_S`` alone).
        kl_S: KL(second model ‖ this one) at each scored position, nats (``Ask.BESIDE``).
    """

    tokens_T: Int[np.ndarray, "T"]
    scored_S: Int[np.ndarray, "S"]
    right_S: Bool[np.ndarray, "S"]
    logp_S: Float[np.ndarray, "S"]
    ends_with_eos: bool
    greedy: Greedy | None = None
    moments: Moments | None = None
    kl_S: Float[np.ndarray, "S"] | None = None


class Statistics(NamedTuple):
    """Sufficient statistics of one example: a sum and what it is divided by (> 0)."""

    total: float
    size: float


def summed(values_S: Float[np.ndarray, "S"] | None) -> Statistics | None:
    """A value in nats and the scored positions it is of, added up in single precision; None without any."""
    if values_S is None or not len(values_S):
        return None
    return Statistics(single_sum(values_S), float(len(values_S)))


def surprise(logp_S: Float[np.ndarray, "S"]) -> Statistics | None:
    """Negative log-likelihood in nats and the label tokens it is of; None without any."""
    return Statistics(-float(logp_S.sum(dtype=np.float64)), float(len(logp_S))) if len(logp_S) else None


def share_right(right_S: Bool[np.ndarray, "S"]) -> Statistics | None:
    """How many are right, and of how many; None without any."""
    return Statistics(float(right_S.sum()), float(len(right_S))) if len(right_S) else None


class Decoding(NamedTuple):
    """Continuations a metric asks for: of prefixes from ``first_prefix`` tokens on, looked at through n-grams."""

    first_prefix: int
    n: int


class Metric:
    """One quantity. Subclass it in ``metrics/<name>.py`` and set ``METRIC``.

    Class attributes:
        Config: its options (``Options`` above).
        means: what its value says, in one plain sentence.
        direction: which way it points.
        modalities: what it measures, of "text", "labels" and "image".
        asks: what it needs of the model; a metric whose asks nobody serves is unscored, with the reason.
        unit: of its value.
        image_unit: of its value over images, where another; "" where the same.
        label_unit: of its value over texts with a label, where another.
        low, high: ends of its range.
        version: bumped when a value could change.
    """

    Config: ClassVar[type[Options]] = Options
    means: ClassVar[str]
    direction: ClassVar[Direction]
    modalities: ClassVar[tuple[str, ...]] = ("text",)
    asks: ClassVar[frozenset[Ask]] = frozenset({Ask.TEACHER})
    unit: ClassVar[str]
    image_unit: ClassVar[str] = ""
    label_unit: ClassVar[str] = ""
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    version: ClassVar[int]

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    @property
    def key(self) -> str:
        """Name in tables and results; default: the name of the file."""
        return type(self).__module__.rpartition(".")[2]

    @classmethod
    def unit_of(cls, kind: str) -> str:
        """The unit over a kind of examples ("text", "labels", "image")."""
        return {"image": cls.image_unit, "labels": cls.label_unit}.get(kind) or cls.unit

    @property
    def decoding(self) -> Decoding | None:
        """The continuations it needs if it asks for ``Ask.GREEDY``; default: none."""
        return None

    def update(self, facts: Facts) -> Statistics | None:
        """Statistics of one example, or None when it cannot be scored."""
        raise TypeError(f"{type(self).__name__} defines no update")

    def values(self, statistics_N2: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N"]:
        """Value of each example; default: total / size."""
        return np.asarray(statistics_N2[..., 0] / statistics_N2[..., 1])

    def aggregate(self, statistics_N2: Float[np.ndarray, "*R N 2"]) -> Float[np.ndarray, "*R"]:
        """Value of a set of examples (or of R resampled sets); default: the mean over examples."""
        return np.asarray(self.values(statistics_N2).mean(-1))

    def compute(self, statistics: Mapping[str, Statistics | None], *, seed: int = 0, why: str = "") -> Score:
        """Score of a set of examples.

        Args:
            statistics: example id -> what ``update`` returned.
            seed: of the bootstrap over examples (95 % interval).
            why: what it asks for is not served, in words; then nothing is scored.
        """
        scored = {key: value for key, value in statistics.items() if value is not None}
        value = low = high = None
        by_id: dict[str, float | None] = dict.fromkeys(statistics)
        if scored:
            statistics_N2 = np.array(list(scored.values()), dtype=np.float64)
            by_id.update(zip(scored, self.values(statistics_N2).tolist(), strict=True))
            value = float(self.aggregate(statistics_N2))
            low, high = bootstrap(statistics_N2, self.aggregate, seed=seed)
        return Score(
            metric=self.key,
            value=value,
            low=low,
            high=high,
            n=len(scored),
            unscored=len(statistics) - len(scored),
            direction=self.direction,
            unit=self.unit,
            version=self.version,
            by_id=by_id,
            why=why,
        )
