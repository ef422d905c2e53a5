"""Fine-tuning: learn new examples, with optional replay of earlier or general ones.

Source: the usual maximum-likelihood training; replay after Robins 1995, "Catastrophic forgetting, rehearsal and
pseudorehearsal", Connection Science 7(2).

    L = − mean log p(learn tokens) − replay_weight · mean log p(replay tokens)

Departs from the paper: replayed examples are real ones, given by the caller, not pseudo-items.
Official code: none.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch, predict_together


class FinetuneConfig(Config):
    """Options of fine-tuning."""

    replay_weight: float = Field(default=1.0, ge=0)
    """Factor of the replay term; without replay a small model forgets everything else."""


def negative_log_likelihood(logp_S: Float[Tensor, "S"]) -> Float[Tensor, ""]:
    """−Σ_s log p_s, nats, over the scored positions of a batch.

    >>> import torch
    >>> round(negative_log_likelihood(torch.tensor([0.5, 0.25]).log()).item(), 4)
    2.0794
    """
    return -logp_S.sum()


class Finetune(Method):
    """Maximum likelihood on the learn set, and on the replay set when there is one."""

    Config = FinetuneConfig
    use_when = (
        "you want to learn new rows; the usual one. Add --replay to keep the rest. "
        "Not to forget; and alone, without --replay, a small model loses what else it knew."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("replay",)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the negative log-likelihood."""
        weights = {"learn": 1.0, "replay": self.config.replay_weight}
        return {
            name: Term(negative_log_likelihood(said.logp_S), of=name, weight=weights[name])
            for name, said in predict_together(model, batches).items()
        }


METHOD = Finetune
