"""DER, dynamically expandable representation: a new backbone for every task, and a head that reads all of them.

Not dark experience replay, which is ``der_pp``.

Source: Yan et al. 2021, "DER: Dynamically Expandable Representation for Class Incremental Learning", arXiv:2103.16788;
known from notes, not read for this.

    L = Σ_set w_set · ( − mean log p(class) − alpha_aux · mean log p_aux(class if new, else "old") )

p is of the wide head over the features of all backbones, p_aux of a classifier on those of the new backbone alone,
which makes it tell the new classes from each other and from all old ones. Sets: learn (w = 1), retain and replay
(memory_weight). The model's own backbone and the earlier ones stand still, to the bit; the new one begins as the newest
of them and with columns of zero in the head, so that the first answer is the model's. The whole head moves
(``models/parts/grown_backbones.py``). The first task has nothing to hold and is fine-tuning: a run without a memory on
a model without grown backbones.

Deletion: the part of a task can be dropped (palimpsest parts DIR --remove N); with the newest one that is the model
before the task, to the bit. What remains of an earlier one: the columns that later tasks learned for its features are
dead, but those that they changed on other features, and their backbones, learned beside rows of it that were replayed;
its rows of the head stay, too. By class or example: ug_clu or scrub on the version.

Departs from the paper: no masks that prune channels, no balanced retraining of the head at the end; every set has its
own mean, where there is one over a mixed batch. The new columns of old classes begin at zero.
Official code: github.com/Rhyssiyan/DER-ClassIL.pytorch; not read for this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.parts.backbone_growth import (
    classes_to_learn,
    freeze_all_but_new,
    is_first_task,
    names_before_head,
    new_backbone,
)
from palimpsest.rules.expansion import expanded_terms, without_auxiliary


class DERConfig(Config):
    """Options of the expandable representation."""

    alpha_aux: float = Field(default=1.0, ge=0)
    """Factor of the auxiliary classifier's loss; 1 in the paper."""
    memory_weight: float = Field(default=1.0, ge=0)
    """Factor of the losses on the memory."""


class DER(Method):
    """Maximum likelihood by all backbones, of which the newest alone moves."""

    Config = DERConfig
    use_when = (
        "new classes must not cost old features and a model may grow. "
        "Not without a memory (--replay), nor where size counts: each task adds a whole backbone."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain", "replay")
    modalities = ("labels", "image")
    adds_parts = True
    tunes_alone = True
    moves_all = True

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """One more backbone, unless this is the first task."""
        if is_first_task(model, sets):
            return ()
        return [new_backbone(model, names_before_head(model), auxiliary=len(classes_to_learn(sets)) + 1)]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """What is old stands still."""
        self._new = classes_to_learn(sets)
        freeze_all_but_new(model)
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Means of the losses of both classifiers."""
        weights = {"auxiliary": self.config.alpha_aux, "memory": self.config.memory_weight}
        return expanded_terms(model, batches, self._new, **weights)

    def finish(self, model: nn.Module) -> nn.Module:
        """The auxiliary classifier has done its work."""
        return without_auxiliary(model)


METHOD = DER
