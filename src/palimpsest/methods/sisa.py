"""SISA: every row is learned by one of several adapters, slice by slice, so that few of them ever saw it.

Source: Bourtoule et al. 2021, "Machine Unlearning", IEEE S&P, arXiv:1912.03817, section IV: sharded, isolated, sliced
and aggregated training.

    L_s,j = − mean log p_s(tokens of slices 1 to j of shard s) − mean log p_s(replay tokens, where there are any)
            2 E / (R + 1) passes over them, for each of the R slices j
    p(word) = 1/S · Σ_s p_s(word)                                 of the S shards that learned a row

The model is left as it is: each shard trains low-rank adapters of its own beside it, and the version bears all of them
as one part (``models/parts/ensemble.py``). Shard and slice of a row are a draw by its id and the seed. What the
adapters were after each slice is kept beside the version (``companions/shards.py``); a row is unlearned by going back
to before its slice, in its shard alone, and learning the other rows again. The bits are those of a version that learned
with the same plan and without the row. All of that is ``engine/sharded``; this file is what a slice learns.

Departs from the paper: adapters on one model in the place of whole models; a new optimizer for each slice; where it
takes votes or means of class scores, probabilities of the next word are averaged (``mean = logits`` averages logits).
A shard that lost all its rows does not vote. Rows are cut by a draw and not evenly, so that one that goes moves no
other.
Official code: github.com/cleverhans-lab/machine-unlearning; not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood_together


class SISAConfig(Config):
    """Options of SISA; to unlearn, those of cutting and learning are the ones that the version was learned with."""

    shards: int = Field(default=4, ge=1, le=256)
    """Adapters, each of which learns its own rows. More make a deletion cheaper and the model know less."""
    slices: int = Field(default=3, ge=1, le=100)
    """Pieces that a shard's rows are learned in, each with those before it. More make a deletion cheaper and keep more
    checkpoints."""
    rank: int = Field(default=16, ge=1)
    """Of the adapters."""
    lora_alpha: float = Field(default=32.0, gt=0)
    """Scale of the adapters: what they add is lora_alpha / rank times B·A."""
    mean: Literal["probabilities", "logits"] = "probabilities"
    """What the ensemble averages: probabilities let the shard that knows decide; logits ask all of them to agree."""
    processes: int | None = Field(default=None, ge=1, le=256)
    """Shards that learn at the same time, each in a process of its own; None = as many as the processors bear, and one
    on an accelerator. The same bits come out."""
    from_base: bool = False
    """To unlearn without checkpoints: shards that a row is in are learned anew from their first slice. For where a
    checkpoint is lost; the same bits come out."""


class SISA(Method):
    """Maximum likelihood of a shard's rows, by its adapters."""

    Config = SISAConfig
    use_when = (
        "rows must go for certain, at the price of a slice. "
        "Not where one answer draws on rows of many people: each shard knows its own alone."
    )
    approach = "retraining"
    kinds = ("learn", "unlearn")
    needs = ()
    one_of = (("learn", "retain"),)
    uses = ("replay",)
    modalities = ("text",)
    keeps = ("shards",)
    defaults = {"learning_rate": 5e-3, "num_train_epochs": 20.0}
    adds_parts = True
    own_schedule = True
    sharded = True

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token mean of −log p of each set."""
        return likelihood_together(model, batches)


METHOD = SISA
