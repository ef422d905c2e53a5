"""DUCT: consolidate the backbone by a share of each task's vector, and carry the old head rows over to it.

Source: Zhou et al. 2024, "Dual Consolidation for Pre-Trained Model-Based Domain-Incremental Learning",
arXiv:2410.00911, as LAMDA-PILOT has it for new classes; known to us from a summary of that and its code.

    tune:       L = − mean log softmax(z over the classes of learn)
    merge:      θ ← θ₀ + ratio · r · (θ − θ₀),   r = mean over new classes of cos(mean before, mean after tuning)
    retrain:    L as before, the head alone
    transport:  W_old ← (1 − head_ratio) W_old + head_ratio · diag(1/b) Pᵀ W_new
    P = transport plan from new to old classes at the distances between their means, with an entropy of ``reg``

P is taken to the classes of each earlier task by itself (``models/sinkhorn.py``); biases go along with their rows.
θ₀ are the weights before the run, so over the tasks the backbone is the sum of their vectors. Old means are those
that were kept when a class was learned (companion ``class_gaussians``), new ones are taken before the run. A first
run, with no class before, is fine-tuning at two rates: there is nothing to consolidate.

To delete: the backbone saw the rows, so ``ug_clu``, ``scrub`` or ``salun`` on the learned version; the companion
drops the classes of what they forgot, whose head rows are then not carried over any more.

Departs from the paper: each task begins at the merged backbone and its vector is of there, where the code begins at
the pre-trained one each time; the first vector counts whole; transported rows are means (columns of P divided by
their sum), where the code multiplies by P itself and so shrinks them by the number of classes.
Official code: that of LAMDA-PILOT (models/duct.py), with these three differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.gaussians import known_gaussians, record_gaussians
from palimpsest.contract import Config, ExampleSet, Method, Phase, Stage, Step, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.errors import PlanError
from palimpsest.models.averaged_weights import copies_of, moving_tensors, part_of_the_way
from palimpsest.models.class_gaussians import Gaussians
from palimpsest.models.head_inputs import current_loss, head_in
from palimpsest.models.scope import trainable
from palimpsest.models.sinkhorn import sinkhorn, transported
from palimpsest.rules.alignment import Alignment, AlignmentConfig
from palimpsest.rules.slow_backbone import slow_rates

_TUNE = Phase("tune", ("learn",))
_MERGE = Phase("merge", ())
_RETRAIN = Phase("retrain", ("learn",), moves_statistics=False)
_TRANSPORT = Phase("transport", ())


class DUCTConfig(Config):
    """Options of DUCT."""

    ratio: float = Field(default=0.25, ge=0, le=1)
    """Share of a task's vector, before it is scaled by how alike the classes still look; 0.25 in the paper's set-up."""
    head_ratio: float = Field(default=0.25, ge=0, le=1)
    """Share of an old head row that is carried over from the new ones."""
    reg: float = Field(default=0.02, gt=0)
    """Entropy of the transport, in the unit of the distances between class means; 0.02 in the paper's code."""
    retrain_epochs: float = Field(default=5.0, gt=0)
    """Passes over learn for the head after merging; 5 in the paper's code."""
    backbone_rate: float = Field(default=0.01, gt=0, le=1)
    """Learning rate of everything below the head, as a share of the head's; 1/100 in the paper's code."""


def likeness(before_CD: Float[Tensor, "C D"], after_CD: Float[Tensor, "C D"]) -> float:
    """r: mean cosine of each class's mean before and after, from −1 to 1.

    >>> likeness(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]]))
    0.5
    """
    return float(F.cosine_similarity(before_CD, after_CD, dim=1).mean())


def carried_over(
    old_OW: Float[Tensor, "O W"],
    new_NW: Float[Tensor, "N W"],
    means: tuple[Float[Tensor, "O D"], Float[Tensor, "N D"]],
    reg: float,
    share: float,
) -> Float[Tensor, "O W"]:
    """Old head rows, a share of each taken from the new rows that lie near it.

    Args:
        old_OW: rows of the classes of one earlier task, weights and bias.
        new_NW: rows of the new classes.
        means: of the old and of the new classes.
        reg: of the transport.
        share: 0 leaves the old rows, 1 takes what is transported.
    """
    plan_NO = sinkhorn(torch.cdist(means[1].double(), means[0].double()), reg)
    return torch.lerp(old_OW, transported(plan_NO, new_NW).to(old_OW), share)


class DUCT(Method):
    """Tune, take a share of the way, retrain the head, carry old rows over."""

    Config = DUCTConfig
    use_when = (
        "a pre-trained classifier learns several like tasks, no rows kept. Not for one task alone: that is fine-tuning."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    modalities = ("labels", "image")
    defaults = {"optimizer": "sgd", "learning_rate": 0.01, "num_train_epochs": 20, "batch_size": 32}
    keeps = ("class_gaussians",)
    own_schedule = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """The weights and the class means before.

        Raises:
            PlanError: rows of the head cannot move.
        """
        self._head = head_in(model, "duct")
        if f"{self._head.name}.weight" not in trainable(model):
            raise PlanError("duct carries rows of the head itself over; accepted: scope.kind = all, or layers with it")
        self._rates = slow_rates(model, self._head, self.config.backbone_rate)
        self._known = known_gaussians(self.companions)
        self._classes = Alignment(AlignmentConfig(), sets["learn"], self._known, 0)
        if self._classes.old:
            self._before, self._means = copies_of(model), self._classes.learned(model)
        return super().prepare(model, sets)

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """Tune; with earlier classes merge, retrain and transport, of which the first and the last are no steps."""
        tune = Stage("tune", phases=(_TUNE,), rates=self._rates)
        if not self._classes.old:
            return (tune,)
        once = {"max_steps": 1}
        head = {"epochs": self.config.retrain_epochs, "moves": (self._head.pattern,)}
        return (
            tune,
            Stage("merge", phases=(_MERGE,), training=once),
            Stage("retrain", phases=(_RETRAIN,), **head),
            Stage("transport", phases=(_TRANSPORT,), training=once),
        )

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Of the classes at hand."""
        said = batches["learn"].predict(model)
        return {"learn": Term(current_loss(said.logits_SV, said.target_S, self._classes.classes), of="learn")}

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """A step, or one of the two consolidations."""
        if phase.name == "merge":
            self._merge(model)
        elif phase.name == "transport":
            self._transport(model)
        else:
            step()

    def _merge(self, model: nn.Module) -> None:
        """Go back to a share of the way, all but the head."""
        after = self._classes.learned(model)
        share = self.config.ratio * likeness(self._stacked(self._means), self._stacked(after))
        with torch.no_grad():
            for name, tensor in moving_tensors(model):
                if not self._head.has(name):
                    tensor.copy_(part_of_the_way(self._before[name], tensor, share))

    def _stacked(self, found: Gaussians, classes: Sequence[int] | None = None) -> Float[Tensor, "C D"]:
        """Means of some classes; of those that the run learns."""
        return torch.stack([found[label].mean_D for label in (classes or self._classes.classes)])

    def _transport(self, model: nn.Module) -> None:
        """Carry the rows of each earlier task over."""
        new, config = list(self._classes.classes), self.config
        tensors = [p for name, p in trainable(model).items() if self._head.has(name)]
        with torch.no_grad():
            rows_VW = torch.cat([p.reshape(len(p), -1) for p in tensors], dim=1)
            for task in sorted({self._known[label].task for label in self._classes.old}):
                old = [label for label in self._classes.old if self._known[label].task == task]
                means = self._stacked(self._known, old), self._stacked(self._means)
                moved = carried_over(rows_VW[old], rows_VW[new], means, config.reg, config.head_ratio)
                widths = [p[0].numel() for p in tensors]
                for tensor, part in zip(tensors, torch.split(moved, widths, dim=1), strict=True):
                    tensor[old] = part.reshape(tensor[old].shape)

    def finish(self, model: nn.Module) -> nn.Module:
        """Keep the classes that were learned."""
        record_gaussians(self.recording, self._classes.learned(model), self._classes.rows)
        return model


METHOD = DUCT
