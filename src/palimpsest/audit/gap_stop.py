"""MASC's online stop: is the true token still far ahead of what the model would say in its place?

Source: Di Gennaro, Shevchenko and Yang 2026, "MASC", arXiv:2606.02920, known to us from its abstract and our notes: end
when the gap between the logit of the original next token and the likeliest alternatives is small on average over a
large enough share of the positions of all forget sequences. It needs no holdout and no oracle.

    gap_s = z_s[y_s] − max_{j ≠ y_s} z_s[j]     closed_i = mean over positions s of example i of 1[gap_s <= refine.gap]

An example passes at closed_i >= ``refine.closed``. At a gap of 0 closed_i is the share of positions where the true
token is not the choice. Departs from the paper: one alternative, the likeliest; example by example, so that those that
pass leave the batches and may come back, as every test of refinement has it; both bounds are ours.

Shape legend: S scored positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from palimpsest.audit.refine import Utility, enough_pass
from palimpsest.audit.refinement import Refinement
from palimpsest.data.encode.batch import TextBatch, TextSet
from palimpsest.loop.stopping import Check
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked

GAP_ROWS = 8  # at once: the logits of all positions stand in memory


def logit_gaps(logits_SV: Float[Tensor, "S V"], target_S: Int[Tensor, "S"]) -> Float[Tensor, "S"]:
    """How far the logit of each target is ahead of the largest other one; negative where it is behind.

    >>> logit_gaps(torch.tensor([[4.0, 1.0, 3.0], [0.0, 2.0, 5.0]]), torch.tensor([0, 1])).tolist()
    [1.0, -3.0]
    """
    own_S1 = target_S[:, None]
    others_SV = logits_SV.float().scatter(1, own_S1, -torch.inf)
    return logits_SV.float().gather(1, own_S1)[:, 0] - others_SV.amax(1)


class GapTest:
    """Examples too few of whose gaps are closed go on."""

    def __init__(self, forget: TextSet, config: Refinement, utility: Utility | None = None) -> None:
        self._forget = forget
        self._config = config
        self._utility = utility or Utility({}, None)

    def check(self, model: nn.Module, step: int) -> Check:
        """One pass over the forget set, without a trace in the model."""
        closed = self._closed(model)
        active = tuple(i for i in self._forget.ids if closed[i] < self._config.closed)
        found = {"forget.closed": sum(closed.values()) / len(closed)}
        found |= self._utility.measure(model)
        enough = enough_pass(len(active), len(self._forget), self._config.share)
        return Check(active, found, self._utility.broken(found), enough)

    def _closed(self, model: nn.Module) -> dict[str, float]:
        """Example -> share of its gaps that are closed."""
        by_length = sorted(self._forget.ids, key=lambda i: len(self._forget[i].tokens))
        with asked(model):
            parts = in_passes(model, self._forget, GAP_ROWS, by_length)
            return {i: share for part in parts for i, share in self._of_batch(model, part).items()}

    def _of_batch(self, model: Any, batch: TextBatch) -> dict[str, float]:
        said = batch.predict(model)
        is_closed_S = (logit_gaps(said.logits_SV, said.target_S) <= self._config.gap).double()  # 7 of 10 are 0.7
        return dict(zip(batch.ids, (said.sum_by_example(is_closed_S) / said.count_B).tolist(), strict=True))
