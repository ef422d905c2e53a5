"""MEMO, memory-efficient expandable model: the last blocks of the network anew for every task, the first ones shared.

Source: Zhou et al. 2023, "A Model or 603 Exemplars: Towards Memory-Efficient Class-Incremental Learning",
arXiv:2205.13218; known from notes, not read for this.

    L = Σ_set w_set · ( − mean log p(class) − alpha_aux · mean log p_aux(class if new, else "old") )

p is of the wide head over the features of all last blocks, p_aux of a classifier on those of the new ones alone. Sets:
learn (w = 1), retain and replay (memory_weight). The first blocks and the earlier last ones stand still, to the bit;
the new ones begin as the newest of them and with columns of zero in the head, so that the first answer is the model's
(``models/parts/grown_backbones.py``). The first task has nothing to hold and is fine-tuning: a run without a memory on
a model without grown backbones.

Deletion: the part of a task can be dropped (palimpsest parts DIR --remove N), and what remains of the task is what
remains in ``der``; the first blocks are the first task's for ever. By class or example: ug_clu or scrub on the version.

Departs from the paper: the shared blocks stand still after the first task in every setting; no weight alignment at the
end; every set has its own mean. It saves space, not time: a pass goes through the shared blocks once for each part.
Official code: github.com/wangkiw/ICLR23-MEMO; not read for this.
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
    names_of_last_blocks,
    new_backbone,
)
from palimpsest.rules.expansion import expanded_terms, without_auxiliary


class MEMOConfig(Config):
    """Options of the memory-efficient expandable model."""

    last_blocks: int = Field(default=1, ge=1)
    """Blocks that are new, from the last; of a ResNet its stages."""
    at: tuple[str, ...] = ()
    """Modules that are new; the last blocks and what follows them when empty."""
    alpha_aux: float = Field(default=1.0, ge=0)
    """Factor of the auxiliary classifier's loss; 1 in the paper."""
    memory_weight: float = Field(default=1.0, ge=0)
    """Factor of the losses on the memory."""


class MEMO(Method):
    """Maximum likelihood by all last blocks, of which the newest alone move."""

    Config = MEMOConfig
    use_when = (
        "a model may grow with every task, but not by a whole backbone. "
        "Not without a memory (--replay), nor where the first tasks taught the first blocks too little."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain", "replay")
    modalities = ("labels", "image")
    adds_parts = True
    tunes_alone = True
    moves_all = True

    def check(self, model: nn.Module) -> None:
        """There are such blocks."""
        names_of_last_blocks(model, self.config.last_blocks, self.config.at)

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """Last blocks once more, unless this is the first task."""
        if is_first_task(model, sets):
            return ()
        names = names_of_last_blocks(model, self.config.last_blocks, self.config.at)
        return [new_backbone(model, names, auxiliary=len(classes_to_learn(sets)) + 1)]

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


METHOD = MEMO
