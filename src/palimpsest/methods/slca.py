"""SLCA: a slow backbone, a quick head over the new classes alone, and then the head aligned over all of them.

Source: Zhang et al. 2023, "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained
Model", arXiv:2303.05118; known to us from a summary of LAMDA-PILOT and its code.

    tune:   L = − mean log softmax(z over the classes of learn),   backbone at backbone_rate · the head's rate
    align:  L = − mean log softmax(z')_c  at features drawn from N(s_c mu_c, cov_c + ridge I) of every class known

The second stage moves the head alone; s_c, z' and how it draws are in ``rules/alignment.py``. Mean and covariance of
each class are kept beside the model as they were when it was learned (companion ``class_gaussians``), no rows. A
first run, with no class before, is fine-tuning at two rates. Head rows of other classes do not move while it tunes.

To delete: the backbone saw the rows, so ``ug_clu``, ``scrub`` or ``salun`` on the learned version. What they forget
is dropped from the companion with its class, which is then not drawn again; so is what ``palimpsest companions
--forget`` purges. A class that is forgotten whole loses its Gaussian with its rows.

Departs from the paper: the rate is constant, where it drops at epoch 18 of 20; the gradient is clipped as in every
run; classes that the head had before and that no run of this kind taught have no Gaussian, and are left alone.
Official code: github.com/GengDavid/SLCA, not read; LAMDA-PILOT repeats it in its models/cofima.py, which agrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.gaussians import known_gaussians, record_gaussians
from palimpsest.contract import ExampleSet, Method, Phase, Stage, Step, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.head_inputs import head_in
from palimpsest.rules.alignment import ALIGN, Alignment, AlignmentConfig
from palimpsest.rules.slow_backbone import slow_rates

_TUNE = Phase("tune", ("learn",))


class SLCAConfig(AlignmentConfig):
    """Options of SLCA."""

    backbone_rate: float = Field(default=0.01, gt=0, le=1)
    """Learning rate of everything below the head, as a share of the head's; 1/100 in the paper."""


class SLCA(Method):
    """Tune slowly, then align the head."""

    Config = SLCAConfig
    use_when = (
        "a pre-trained classifier learns new classes, no rows kept. "
        "Not for a backbone that knows little yet: it moves slowly on purpose."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    modalities = ("labels", "image")
    defaults = {"optimizer": "sgd", "learning_rate": 0.01, "num_train_epochs": 20, "batch_size": 32}
    keeps = ("class_gaussians",)
    own_schedule = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Which classes are learned, and which are known."""
        self._rates = slow_rates(model, head_in(model, "slca"), self.config.backbone_rate)
        self._pattern = head_in(model, "slca").pattern
        known = known_gaussians(self.companions)
        self._alignment = Alignment(self.config, sets["learn"], known, torch.initial_seed())
        return super().prepare(model, sets)

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """Tune, then align where there is anything to align with."""
        return (Stage("tune", phases=(_TUNE,), rates=self._rates), *self._alignment.stages(self._pattern))

    def phases(self, step: int, planned: int) -> Sequence[Phase]:
        """Of the alignment, whose draws depend on the step."""
        return self._alignment.phases(step)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Of the classes at hand, or of what is drawn from all."""
        return self._alignment.terms(model, batches, phase)

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """A step; what was estimated of a backbone that moves is estimated anew."""
        step()
        if phase.name != ALIGN:
            self._alignment.anew()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The weights are others now."""
        self._alignment.anew()

    def finish(self, model: nn.Module) -> nn.Module:
        """Keep the classes that were learned."""
        record_gaussians(self.recording, self._alignment.learned(model), self._alignment.rows)
        return model


METHOD = SLCA
