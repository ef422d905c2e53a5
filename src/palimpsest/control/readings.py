"""What a model knows of some examples, row by row, from one teacher-forced pass.

Shape legend: S scored positions of a batch, V vocabulary (or classes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from palimpsest.data.encode.batch import Batch, ExampleSet
from palimpsest.metrics.es import ES
from palimpsest.metrics.ma import MA
from palimpsest.metrics.metric import Facts
from palimpsest.models.modes import asked

LOGITS_BYTES = 2**26
MOST_ROWS = 32


class RowReading(NamedTuple):
    """One example.

    Attributes:
        nats: negative log-likelihood, summed over its scored positions.
        length: scored positions.
        ma: share of them whose arg-max is right; of an image 0 or 1.
        es: extraction strength; the same as ``ma`` of an image, and of an answer that is nothing but its closing eos.
    """

    nats: float
    length: int
    ma: float
    es: float


@dataclass(frozen=True)
class Reading:
    """Some examples under one model.

    Attributes:
        rows: id -> its reading.
    """

    rows: Mapping[str, RowReading]

    @cached_property
    def ma(self) -> float:
        """Mean over examples."""
        return float(np.mean([row.ma for row in self.rows.values()]))

    @cached_property
    def es(self) -> float:
        """Mean over examples."""
        return float(np.mean([row.es for row in self.rows.values()]))

    @cached_property
    def nats(self) -> float:
        """Nats per scored position, over all of them together."""
        return sum(row.nats for row in self.rows.values()) / sum(row.length for row in self.rows.values())

    @property
    def positions(self) -> int:
        """Scored positions in all."""
        return sum(row.length for row in self.rows.values())

    def of(self, ids: Iterable[str]) -> Reading:
        """The same for these examples alone."""
        return Reading({i: self.rows[i] for i in ids})


def row_reading(
    right_S: Sequence[bool] | np.ndarray, logp_S: Sequence[float] | np.ndarray, *, ends_with_eos: bool = False
) -> RowReading:
    """One example, by the definitions of ``metrics/ma.py`` and ``metrics/es.py``.

    Args:
        right_S: is the arg-max at each scored position right? At least one position.
        logp_S: log-probability of each target, nats.
        ends_with_eos: is the last target an end-of-sequence token? ES does not count it.

    >>> row_reading([True, False, True, True], [-0.5, -2.0, -0.25, -0.25])
    RowReading(nats=3.0, length=4, ma=0.75, es=0.5)
    """
    right, logp = np.asarray(right_S, dtype=bool), np.asarray(logp_S, dtype=np.float64)
    facts = Facts(np.zeros(0, int), np.zeros(0, int), right, logp, ends_with_eos=ends_with_eos)
    known, strength = MA().update(facts), ES().update(facts)
    ma = 0.0 if known is None else known.total / known.size
    es = ma if strength is None else strength.total / strength.size
    return RowReading(float(-logp.sum()), len(right), ma, es)


def read(
    model: Any, examples: ExampleSet, ids: Iterable[str] | None = None, *, eos_ids: frozenset[int] = frozenset()
) -> Reading:
    """Read examples under a model, in eval mode, without a trace in it.

    Args:
        model: on its device.
        examples: a set of texts or images; images are not augmented.
        ids: of those to read; None = all. Batches are made of similar lengths.
        eos_ids: tokens that end a generation.

    Returns:
        The reading, in the order of ``ids``; values that are not finite are kept as they are.
    """
    wanted = list(examples.ids if ids is None else ids)
    plain = examples.plain()
    device = next(model.parameters()).device
    found: dict[str, RowReading] = {}
    with asked(model):
        for part in batches(model, plain, wanted):
            found |= _batch_rows(model, plain.batch(part).to(device), eos_ids)
    return Reading({i: found[i] for i in wanted})


def batches(model: Any, examples: ExampleSet, ids: Sequence[str]) -> list[list[str]]:
    """Ids by length, cut where the logits of a part would pass ``LOGITS_BYTES``."""
    length = {i: _length(examples, i) for i in ids}
    outputs = _outputs(model)
    parts: list[list[str]] = []
    for example_id in sorted(ids, key=lambda i: length[i]):
        part = parts[-1] if parts else []
        size = 4 * outputs * length[example_id] * (len(part) + 1)
        if not part or len(part) >= MOST_ROWS or size > LOGITS_BYTES:
            parts.append([])
        parts[-1].append(example_id)
    return parts


def _length(examples: ExampleSet, example_id: str) -> int:
    tokens = getattr(examples, "__getitem__", None)
    return len(examples[example_id].tokens) if tokens is not None else 1  # type: ignore[index]


def _outputs(model: nn.Module) -> int:
    config: Any = model.config
    return int(getattr(config, "vocab_size", 0) or getattr(config, "num_labels", 1))


def _batch_rows(model: nn.Module, batch: Batch, eos_ids: frozenset[int]) -> dict[str, RowReading]:
    said = batch.predict(model)
    right_S = (said.logits_SV.argmax(-1) == said.target_S).cpu().numpy()
    logp_S, owner_S = said.logp_S.cpu().numpy(), said.owner_S.cpu().numpy()
    found = {}
    for row, example_id in enumerate(batch.ids):
        mine_S = owner_S == row
        last = said.target_S.cpu().numpy()[mine_S][-1:].tolist()
        found[example_id] = row_reading(right_S[mine_S], logp_S[mine_S], ends_with_eos=bool(eos_ids.intersection(last)))
    return found
