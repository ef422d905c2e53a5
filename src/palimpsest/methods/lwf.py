"""Learning without forgetting (LwF): learn while answering the new inputs as the model before would have.

Source: Li and Hoiem 2016, "Learning without Forgetting", arXiv:1606.09282, the loss with knowledge distillation.

    L = − mean log p(learn tokens) + lambda_o · mean KL( p_ref^(1/T) ‖ p^(1/T) ) at the learn tokens

p^(1/T) is normalised again: the softmax of the logits divided by T. No memory of earlier data is needed.

Departs from the paper: a KL where it has a cross-entropy (the same gradient; 0 at the reference); one head for old and
new, where it distils the old tasks' heads and warms the new head up alone; weight decay is the run's option.
Official code: github.com/lizhitwo/LearningWithoutForgetting, MATLAB; the same gradient, without the factor T² that
later code of others carries.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import kl_divergence


class LwFConfig(Config):
    """Options of LwF."""

    lambda_o: float = Field(default=1.0, ge=0)
    """Factor of the distillation; the paper's default is 1."""
    temperature: float = Field(default=2.0, gt=0)
    """T: above 1 the unlikely answers count for more; the paper's value is 2."""


def distillation_loss(
    reference_SV: Float[Tensor, "S V"], logits_SV: Float[Tensor, "S V"], temperature: float
) -> Float[Tensor, ""]:
    """KL of the softened distributions, summed over positions, nats.

    Args:
        reference_SV: logits of the reference.
        logits_SV: logits of the model.
        temperature: T > 0.
    """
    return kl_divergence(reference_SV / temperature, logits_SV / temperature).sum()


class LwF(Method):
    """Maximum likelihood on the learn set, held back by the reference on the same inputs."""

    Config = LwFConfig
    use_when = (
        "you learn new rows and kept none of the earlier ones. "
        "Not where some were kept: then rehearse them (er, der_pp). It holds what the model says to the new rows, "
        "not to the old."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    reference_sets = frozenset({"learn"})

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both terms."""
        said = batches["learn"].predict(model)
        reference_SV = self.recall(model, batches["learn"]).logits_SV
        distilled = distillation_loss(reference_SV, said.logits_SV, self.config.temperature)
        return {
            "learn": Term(-said.logp_S.sum(), of="learn"),
            "distillation": Term(distilled, of="learn", weight=self.config.lambda_o),
        }


METHOD = LwF
