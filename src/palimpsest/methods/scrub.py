"""SCRUB: a student that disobeys its teacher on the forget set and obeys it on the retain set.

Source: Kurmanji et al. 2023, "Towards Unbounded Machine Unlearning", arXiv:2302.09880, its section on SCRUB.

    max epoch, over forget    L = − mean KL_T( p_ref ‖ p ) at forget
    min epoch, over retain    L =   alpha · mean KL_T( p_ref ‖ p ) at retain − gamma · mean log p(retain tokens)
    KL_T( p_ref ‖ p ) = T² · KL( p_ref^(1/T) ‖ p^(1/T) );   the teacher is the model before the run

The paper's Algorithm 1: of ``num_train_epochs`` epochs the first ``max_epochs`` (its MSTEPS) are a max epoch and a min
epoch each, those after them a min epoch alone; all with one optimizer. Nothing but ``max_epochs``, clipping and the
learning rate bounds the ascent: a long run ends far above a guess. A controlled run goes through both in turn, a max
step and a min step, until the forget set is at its level.

Departs from the paper: rewinding (SCRUB+R: of the checkpoints of all epochs take the one whose error on the forget set
is that on comparable unseen data) is not implemented. T is in the code, not in the paper's equation. Where the student
still is its teacher to the bit (no batch normalisation, no augmentation) the first max step has a gradient of rounding
errors alone, of which AdamW makes a whole step; so in the paper.
Official code: github.com/meghdadk/SCRUB, no licence file; its scrub.py gives the optimizer the parameters of another
model than the student, the notebooks do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Stage, Term, Terms
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
    max_epochs: int = Field(default=2, ge=0, le=1000)
    """Epochs, from the first, that begin with a max epoch; the published notebooks have 2 of 3 and fewer."""

    RETIRED = {"max_share": "max and min steps alternate by whole epochs now, as in the paper; give max_epochs"}


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
    approach = "distillation"
    needs = ("forget", "retain")
    reference_sets = frozenset({"forget", "retain"})
    defaults = {"learning_rate": 1e-5}

    def stages(self, sizes: Mapping[str, int]) -> tuple[Stage, ...]:
        """A max and a min epoch, so often; then min epochs alone."""
        ascents = min(self.config.max_epochs, math.ceil(self.planned_epochs))
        rest = self.planned_epochs - max(0, ascents - 1)
        both = (_over("forget", "max", 1.0), _over("retain", "min", 1.0))
        last = _over("retain", "min", rest)
        return (*both * (ascents - 1), both[0], last) if ascents else (last,)

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


def _over(name: str, phase: str, epochs: float) -> Stage:
    """Steps of one kind over one set; the optimizer is that of all of them."""
    return Stage(phase, anchor=name, epochs=epochs, phases=(Phase(phase, (name,)),), fresh=False)


METHOD = SCRUB
