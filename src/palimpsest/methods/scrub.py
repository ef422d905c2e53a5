"""SCRUB: a student that disobeys its teacher on the forget set and obeys it on the retain set.

Source: Kurmanji et al. 2023, "Towards Unbounded Machine Unlearning", arXiv:2302.09880, its section on SCRUB.

    max step    L = − mean KL_T( p_ref ‖ p ) at forget
    min step    L =   alpha · mean KL_T( p_ref ‖ p ) at retain − gamma · mean log p(retain tokens)
    KL_T( p_ref ‖ p ) = T² · KL( p_ref^(1/T) ‖ p^(1/T) );   the teacher is the model before the run

Each iteration is a max step and a min step while its number is below ``max_share`` of the run, then a min step alone.
Nothing but ``max_share``, clipping and the learning rate bounds the ascent: a long run ends far above a guess.

Departs from the paper: it alternates whole epochs of max and of min steps, here single steps. The first iteration has
no max step: the student still is its teacher, the divergence at its minimum, and an optimizer like AdamW would make a
full step of the rounding errors. Rewinding (SCRUB+R: of the checkpoints of all epochs take the one whose error on the
forget set is that on comparable unseen data) is not implemented. T is in the code, not in the paper's equation.
Official code: github.com/meghdadk/SCRUB, no licence file; its scrub.py gives the optimizer the parameters of another
model than the student, the notebooks do not.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import kl_divergence


class SCRUBConfig(Config):
    """Options of SCRUB."""

    alpha: float = Field(default=0.001, ge=0)
    """Factor of the divergence on the retain set; the published notebooks use 0.001, 0.1 or 0.5."""
    gamma: float = Field(default=0.99, ge=0)
    """Factor of the retain set's own loss; the published notebooks use 0.99 or 1."""
    temperature: float = Field(default=4.0, gt=0)
    """T: above 1 the unlikely answers count for more; 2 or 4 in the published code, 1 is the paper's equation."""
    max_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the run, from its start, with max steps; the published notebooks have 2 of 3 epochs and fewer."""


def softened_divergence(
    teacher_SV: Float[Tensor, "S V"], logits_SV: Float[Tensor, "S V"], temperature: float
) -> Float[Tensor, ""]:
    """T² · KL of the softened distributions, summed over positions, nats; T² keeps the size of its gradient.

    Args:
        teacher_SV: logits of the teacher, no gradient expected.
        logits_SV: logits of the student.
        temperature: T > 0.
    """
    return temperature**2 * kl_divergence(teacher_SV / temperature, logits_SV / temperature).sum()


class SCRUB(Method):
    """Max steps away from the reference on forget, min steps towards it and the labels on retain."""

    Config = SCRUBConfig
    use_when = (
        "a class of images must go from a small residual net. "
        "Not for vision transformers, whose class it left as it was, nor for a random tenth; a long run at a "
        "fixed rate ends far above a guess."
    )
    needs = ("forget", "retain")
    reference_sets = frozenset({"forget", "retain"})
    defaults = {"learning_rate": 1e-5}

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """A max and a min step; later a min step alone."""
        ascends = 0 < step < self.config.max_share * planned
        return (*((Phase("max", ("forget",)),) if ascends else ()), Phase("min", ("retain",)))

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the phase's terms."""
        name = phase.sets[0]
        said = batches[name].predict(model)
        teacher_SV = self.recall(model, batches[name]).logits_SV
        divergence = softened_divergence(teacher_SV, said.logits_SV, self.config.temperature)
        if phase.name == "max":
            return {"max": Term(divergence, of="forget", weight=-1.0)}
        return {
            "min": Term(divergence, of="retain", weight=self.config.alpha),
            "retain": Term(-said.logp_S.sum(), of="retain", weight=self.config.gamma),
        }


METHOD = SCRUB
