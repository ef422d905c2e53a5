"""Past gradients: keep in which direction a request pushes the weights, so that later requests can keep out of it.

Source: ONPO, ICLR 2026 workshop (OpenReview lb6Ce20kl5), known to us from its abstract and our notes. The rows to
forget are cut into ``vectors`` groups, in the order of the data; of each is kept, at the weights a run starts from,

    g_k = ∇ mean over positions of group k of −log p

in fp32: so many times the size of the weights that move, on the disk. What becomes of them is said in
``companions/gradient_log.py``. Departs from the paper: gradients of the plain loss and not of the run's objective,
which may have none where the run starts; once, and not along the way, so that a run that dies or goes back has the
same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import nn

from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.gradient_log import record_gradients
from palimpsest.companions.marks import key_file, own_key
from palimpsest.contract import ExampleSet
from palimpsest.data.encode.batch_norm import statistics_kept
from palimpsest.errors import PlanError
from palimpsest.method_card import Config
from palimpsest.models.in_passes import batches_of
from palimpsest.models.modes import in_eval_mode
from palimpsest.rules.asked import Gradients, taken
from palimpsest.rules.rule import Rule

_ROWS = 8  # through the model at once


class PastGradientsConfig(Config):
    """Options of recording."""

    vectors: int = Field(default=2, ge=1, le=64)
    """Gradients that are kept of a request; a purge of one row deletes the one that it was in."""


class RecordGradients(Rule):
    """The recorder. It looks once, before the first step, and moves nothing."""

    Config = PastGradientsConfig
    use_when = "later requests to forget shall keep out of the way of this one (orthogonal_to_past)"
    place = "watches"

    @classmethod
    def reads(cls, config: Any) -> tuple[str, ...]:
        """What is forgotten."""
        return ("forget",)

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Write the gradients down; a resumed run writes the same again."""
        key = own_key()
        if key is None:
            raise PlanError(
                f"record: {key_file()} cannot be written, and without a key nothing is kept of whose gradients they are"
            )
        rows = sets["forget"].plain()
        groups = in_groups(rows.ids, self.config.vectors)
        found = [(mean_gradient(model, rows, ids), key.of_ids(ids)) for ids in groups]
        record_gradients(self.setting.folder / RECORDING / self.kind, found)


def in_groups(ids: Sequence[str], count: int) -> list[list[str]]:
    """At most so many groups of neighbours, of sizes that differ by one at most.

    >>> in_groups("abcde", 2)
    [['a', 'b', 'c'], ['d', 'e']]
    """
    count = min(count, len(ids))
    ends = [-(-len(ids) * k // count) for k in range(count + 1)]
    return [list(ids[start:end]) for start, end in pairwise(ends)]


def mean_gradient(model: nn.Module, rows: ExampleSet, ids: Sequence[str]) -> Gradients:
    """Gradient of the mean −log p over all positions of some rows, fp32; the model is left without any."""
    device = next(model.parameters()).device
    batches = [batch.bare for batch in batches_of(rows, _ROWS, ids)]
    positions = sum(batch.num_scored for batch in batches)
    with torch.random.fork_rng(), in_eval_mode(model), statistics_kept(model, everywhere=True):
        taken(model)
        for batch in batches:
            (-batch.to(device).predict(model).logp_S.sum() / positions).backward()
        return {name: gradient.float() for name, gradient in taken(model).items()}


RULE = RecordGradients
