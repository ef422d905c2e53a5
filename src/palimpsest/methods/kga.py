"""Knowledge gap alignment (KGA): forget rows end as far from a model that learned them as new rows are.

Source: Wang et al. 2023, "KGA: A General Machine Unlearning Framework Based on Knowledge Gap Alignment",
arXiv:2305.06535, its loss as the project's notes and summaries have it.

    L = mean_x | gap_x( p, p_f ) − G | at forget  +  alpha · mean KL( p_ref ‖ p ) at the retain tokens
    gap_x( p, q ) = mean over the label tokens of row x of KL( p ‖ q ),     G = mean_x gap_x( p_ref, p_n ) at holdout

p_n and p_f are two helpers: copies of the model whose adapters learned the holdout, which the model never saw, and the
forget rows. G is what lies between a model that does not know some rows and one that does; the loss has its end where
as much lies between the model and the helper that knows forget. The first helper learns until new rows cost it what the
forget rows cost the model, the second as many passes; so of rows that the model hardly knows little is asked. Both are
made anew by every process, from the weights that the run starts from, and are written nowhere.

Departs from the paper: the helpers begin with the model at hand, not with the one before it learned anything, and are
adapters; G is one number, not that of a new row drawn beside each forget row; retain is in each step, where the paper
takes several steps over it (``alpha`` 0.1 in its published arguments) for one over both gaps.
Official code: its published arguments alone were seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch, Predictions, predict_together
from palimpsest.models.divergence import kl_divergence, reverse_divergence
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.models.reinforced import taught_copy

ROWS_OF_A_LOOK = 8  # of a helper's step and of a look


class KGAConfig(Config):
    """Options of KGA."""

    alpha: float = Field(default=1.0, ge=0)
    """Factor of the divergence at retain."""
    passes: int = Field(default=30, ge=1)
    """Over its rows, of a helper, at most."""
    helper_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of the helpers."""
    rank: int = Field(default=16, ge=1)
    """Of the helpers' adapters."""
    seed: int = Field(default=0, ge=0)
    """Of the helpers' first numbers and of the order of their rows."""


def row_gaps(said: Predictions, helper_SV: Float[Tensor, "S V"]) -> Float[Tensor, "B"]:
    """KL(model ‖ helper) of each row, the mean over its positions, nats; the model gets a gradient.

    >>> said = Predictions(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0]), 1)
    >>> round(row_gaps(said, torch.tensor([[0.8, 0.2]]).log()).item(), 4)
    0.2231
    """
    return said.sum_by_example(reverse_divergence(said.logits_SV, helper_SV)) / said.count_B.clamp(min=1)


def alignment_loss(gap_B: Float[Tensor, "B"], wanted: float) -> Float[Tensor, ""]:
    """|gap − G|, summed over rows, nats.

    >>> alignment_loss(torch.tensor([0.5, 3.0]), 1.0).item()
    2.5
    """
    return (gap_B - wanted).abs().sum()


def mean_gap(model: nn.Module, helper: nn.Module, examples: ExampleSet) -> float:
    """What lies between a model and a helper on some rows, nats per position, the mean over rows."""
    with asked(model):
        gaps = [row_gaps(b.predict(model), b.predict(helper).logits_SV).sum() for b in _batches(model, examples)]
    return float(torch.stack(gaps).sum()) / len(examples)


def token_cost(model: nn.Module, examples: ExampleSet) -> float:
    """Mean −log p of a label token of some rows, nats."""
    with asked(model):
        logp_S = torch.cat([batch.predict(model).logp_S for batch in _batches(model, examples)])
    return -float(logp_S.mean())


def _batches(model: nn.Module, examples: ExampleSet) -> Iterator[Batch]:
    return (batch.bare for batch in in_passes(model, examples, ROWS_OF_A_LOOK))


class KGA(Method):
    """Move forget rows away from a helper that knows them, as far as new rows are from one that learned those."""

    Config = KGAConfig
    use_when = (
        "what was never seen says how far to go. "
        "Not where memory is short, or holdout is unlike forget: there are two more models, and it sets the distance."
    )
    approach = "distillation"
    needs = ("forget", "retain", "holdout")
    reference_sets = frozenset({"retain"})
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Make the helpers; of the one that learned new rows a number is left."""
        forget, new = (sets[name].plain() for name in ("forget", "holdout"))
        helper, passes = self._taught(model, new, self.config.passes, enough=token_cost(model, forget))
        self.wanted = mean_gap(model, helper, new)
        del helper
        self.knows_forget, _ = self._taught(model, forget, passes, enough=0.0)
        return super().prepare(model, sets)

    def _taught(self, model: nn.Module, rows: ExampleSet, passes: int, *, enough: float) -> tuple[nn.Module, int]:
        how: dict[str, Any] = {"rank": self.config.rank, "rate": self.config.helper_rate, "rows": ROWS_OF_A_LOOK}
        return taught_copy(model, rows, passes=passes, seed=self.config.seed, enough=enough, **how)

    def phases(self, step: int, planned: int) -> Sequence[Phase]:
        """Steps are drawn from what must go and what must stay; nothing is learned from the holdout."""
        return (Phase("joint", ("forget", "retain")),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Mean over forget rows of how far their gap is from the one wanted; token mean of the divergence at retain."""
        said = predict_together(model, batches)  # before the helper: the model decides what is shown
        with torch.no_grad():
            knowing = batches["forget"].seen(batches["forget"].bare.predict(self.knows_forget), picks=False)
        gap = alignment_loss(row_gaps(said["forget"], knowing.logits_SV), self.wanted)
        kept = kl_divergence(self.recall(model, batches["retain"]).logits_SV, said["retain"].logits_SV).sum()
        return {
            "gap": Term(gap, of="forget", per="example"),
            "retain": Term(kept, of="retain", weight=self.config.alpha),
        }


METHOD = KGA
