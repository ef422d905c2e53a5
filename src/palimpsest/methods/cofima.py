"""CoFiMA: learn as SLCA does, and go only so far from the model before as its weights can bear.

Source: Marouf et al. 2023, "Weighted Ensemble Models Are Strong Continual Learners", arXiv:2312.08977; known to us
from a summary of LAMDA-PILOT and its code.

    tune:     L = − mean log softmax(z over the classes of learn),   backbone at backbone_rate · the head's rate
    average:  θ ← ((1 − alpha) F₀ θ₀ + alpha F₁ θ₁) / ((1 − alpha) F₀ + alpha F₁)
    align:    L = − mean log softmax(z')_c  at features drawn from every class known (``rules/alignment.py``)

θ₀ are the weights before the run and F₀ their Fisher, taken at what they learned last (companion ``fisher``); θ₁ and
F₁ those after tuning, F₁ at the learn set. Both are capped at ``most``. Where F₀ was not kept, or neither model
depends on a number, the average is by alpha alone; so it is of running statistics. Head rows of new classes stay as
they were tuned. alpha = 0 keeps the model before but for its head, alpha = 1 is SLCA, and so is a first run.

To delete: as of SLCA, ``ug_clu``, ``scrub`` or ``salun`` on the learned version. Its run leaves the Fisher behind,
and of the companion ``class_gaussians`` the classes of what it forgot.

Departs from the paper: F is that of one row, over at most ``fisher_rows`` of them, where the code squares gradients
of batches; F₀ is taken at the weights that the version ended with, there at those before it was averaged.
Official code: that of LAMDA-PILOT (models/cofima.py) agrees with the equation; it multiplies new head rows by F₁.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.fisher_kept import known_fisher, record_fisher
from palimpsest.companions.gaussians import known_gaussians, record_gaussians
from palimpsest.contract import ExampleSet, Method, Phase, Stage, Step, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.averaged_weights import copies_of, fisher_average, moving_tensors
from palimpsest.models.families import of_model
from palimpsest.models.head_inputs import head_in
from palimpsest.rules.alignment import ALIGN, Alignment, AlignmentConfig
from palimpsest.rules.fisher import fisher_of
from palimpsest.rules.slow_backbone import slow_rates

_TUNE = Phase("tune", ("learn",))
_AVERAGE = Phase("average", ())


class CoFiMAConfig(AlignmentConfig):
    """Options of CoFiMA."""

    alpha: float = Field(default=0.4, ge=0, le=1)
    """Weight of the model after tuning; the paper's code has 0.4."""
    most: float = Field(default=1e-4, gt=0)
    """Cap of the Fisher, so that few weights do not decide alone; 1e-4 in the paper's code."""
    fisher_rows: int = Field(default=256, ge=1)
    """At most so many rows make a Fisher, one backward pass each."""
    backbone_rate: float = Field(default=0.01, gt=0, le=1)
    """Learning rate of everything below the head, as a share of the head's; 1/100 in the paper's code."""


def fishers_of(
    name: str, tensor: Tensor, fishers: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
) -> tuple[Tensor, Tensor]:
    """F₀ and F₁ of a tensor; ones where one of them has none of it, or of another size, as of a head that grew."""
    found = [fisher[name] for fisher in fishers if name in fisher and fisher[name].shape == tensor.shape]
    if len(found) < len(fishers):
        return torch.ones_like(tensor), torch.ones_like(tensor)
    return found[0].to(tensor.device), found[1].to(tensor.device)


class CoFiMA(Method):
    """Tune slowly, average with the model before, align the head."""

    Config = CoFiMAConfig
    use_when = (
        "as slca, and earlier classes suffer from the moving backbone. "
        "Not for few steps: the average takes back more than half of them."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    modalities = ("labels", "image")
    defaults = {"optimizer": "sgd", "learning_rate": 0.01, "num_train_epochs": 20, "batch_size": 32}
    keeps = ("class_gaussians", "fisher")
    own_schedule = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """The weights before, and whose rows of the head are new."""
        self._head = head_in(model, "cofima")
        self._rates = slow_rates(model, self._head, self.config.backbone_rate)
        self._learn, self._outputs = sets["learn"], of_model(model).num_outputs(model)
        known = known_gaussians(self.companions)
        self._alignment = Alignment(self.config, sets["learn"], known, torch.initial_seed())
        self._new = [label for label in self._alignment.classes if label not in known]
        self._before = copies_of(model) if self._alignment.old else {}
        return super().prepare(model, sets)

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """Tune; with earlier classes average, which is no step, and align."""
        tune = Stage("tune", phases=(_TUNE,), rates=self._rates)
        if not self._alignment.old:
            return (tune,)
        average = Stage("average", phases=(_AVERAGE,), training={"max_steps": 1})
        return (tune, average, *self._alignment.stages(self._head.pattern))

    def phases(self, step: int, planned: int) -> Sequence[Phase]:
        """Of the alignment, whose draws depend on the step."""
        return self._alignment.phases(step)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Of the classes at hand, or of what is drawn from all."""
        return self._alignment.terms(model, batches, phase)

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """A step, or the average; both move the backbone, but for a step of the alignment."""
        if phase.name == "average":
            self._average(model)
        else:
            step()
        if phase.name != ALIGN:
            self._alignment.anew()

    def _average(self, model: nn.Module) -> None:
        """Lay the average over the model; rows of the head that are new stay."""
        fishers = known_fisher(self.companions), self._fisher(model)
        with torch.no_grad():
            for name, tensor in moving_tensors(model):
                found = fishers_of(name, tensor, fishers)
                averaged = fisher_average(self._before[name], tensor, found, self.config.alpha)
                if self._head.has(name) and len(tensor) == self._outputs:  # else a thin matrix of an adapter
                    averaged[self._new] = tensor[self._new]
                tensor.copy_(averaged)

    def _fisher(self, model: nn.Module) -> dict[str, Tensor]:
        found = fisher_of(model, self._learn, limit=self.config.fisher_rows, labels="data", draws=1)
        return {name: fisher.clamp(max=self.config.most) for name, fisher in found.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The weights are others now."""
        self._alignment.anew()

    def finish(self, model: nn.Module) -> nn.Module:
        """Keep the classes that were learned, and what the model depends on now."""
        record_gaussians(self.recording, self._alignment.learned(model), self._alignment.rows)
        if self.recording is not None:
            own = {name: f for name, f in self._fisher(model).items() if "lora_" not in name}  # an adapter is merged
            record_fisher(self.recording, own, self._learn.ids)
        return model


METHOD = CoFiMA
