"""Who's Harry Potter: learn, in the place of what must go, what a model might say that never read it.

Source: Eldan & Russinovich 2023, "Who's Harry Potter? Approximate Unlearning in LLMs", arXiv:2310.02238, section 2.

    L = − mean_t log p( g_t | x_<t ),   g_t = argmax [ v − alpha · ReLU( v_reinforced − v ) ]_t over forget tokens

g are the generic labels (``derived/generic.py``): tokens that are still likely once what a reinforced model holds for
likelier is held down. They are made once, from the model as it was; x_<t is the row itself.

Departs from the paper: no dictionary of anchor terms; the reinforced model is an adapter; label tokens only; the run
finds its own rate and end.
Official code: none published; the paper states its steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch


class WhoIsHarryPotterConfig(Config):
    """Options of Who's Harry Potter: none; those of its labels are in ``derived.generic``."""


def relabelled_loss(logits_SV: Float[Tensor, "S V"], label_S: Int[Tensor, "S"]) -> Float[Tensor, ""]:
    """−log p of other labels than the rows' own, summed, nats.

    >>> import torch
    >>> round(relabelled_loss(torch.zeros(2, 4), torch.tensor([1, 3])).item(), 4)
    2.7726
    """
    return F.cross_entropy(logits_SV.float(), label_S, reduction="sum")


class WhoIsHarryPotter(Method):
    """Descend on generic labels at the tokens of forget."""

    Config = WhoIsHarryPotterConfig
    use_when = (
        "plausible text must stand where the secret stood. "
        "Not where nothing like it may come out: the labels are the model's own second thoughts."
    )
    approach = "relabelling"
    needs = ("forget", "generic")
    modalities = ("text",)
    paired = {"generic": "forget"}
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token mean over the forget rows, each answered with its labels."""
        said = batches["forget"].predict(model)
        label_S = batches["forget"].shown(batches["generic"].bare.target_S)
        return {"generic": Term(relabelled_loss(said.logits_SV, label_S), of="forget")}


METHOD = WhoIsHarryPotter
