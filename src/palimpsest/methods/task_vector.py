"""Task vector: learn the forget set some more, and go the same way in the other direction.

Source: Ilharco et al. 2023, "Editing Models with Task Arithmetic", arXiv:2212.04089, section on forgetting by negation.

    τ = θ − θ₀,   θ = argmin L(θ) from θ₀,   L = − mean log p(forget tokens)
    θ ← θ₀ − lambda · τ

The steps are those of fine-tuning; whatever is looked at or saved is the negative. With adapters (scope.kind = lora) τ
is their product B·A, and B is negated. lambda is found by the damage that is allowed on retain unless it is given
(``rules/damage_budget.py``). It runs at its own rate: a search would look for the rate at which the set is *learned*.

Departs from the paper: lambda is chosen by a budget in KL, where the paper takes the largest of a grid that keeps 95 %
of the control task's accuracy. A step of repair (--set repair.steps) would be negated as well: leave it out.
Official code: github.com/mlfoundations/task_vectors (no licence file that we know of); not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field
from torch import nn

from palimpsest.contract import ExampleSet, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.errors import PlanError
from palimpsest.rules.damage_budget import BudgetConfig, Damage
from palimpsest.rules.negated import Negated
from palimpsest.rules.rule import Rule
from palimpsest.terms import likelihood

LEARN = Phase("learn", ("forget",), moves_statistics=False)


class TaskVectorConfig(BudgetConfig):
    """Options of the task vector."""

    scale: float | None = Field(default=None, gt=0)
    """lambda: how far back, in lengths of the way that was learned; None = as far as the budget lets."""


class TaskVector(Method):
    """Fine-tune on forget, then go the other way as far as retain can bear."""

    Config = TaskVectorConfig
    use_when = (
        "a few steps on forget are all you can take. "
        "Not where rows must end at the level of never seen: how far it goes is a matter of damage."
    )
    approach = "editing"
    needs = ("forget",)
    uses = ("retain",)
    reference_sets = frozenset({"retain"})
    defaults = {"learning_rate": 1e-4, "num_train_epochs": 3}
    own_schedule = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """There is something to read the damage on, or lambda is given.

        Raises:
            PlanError: neither.
        """
        if self.config.scale is None and "retain" not in sets:
            raise PlanError(
                "task_vector finds how far to go by the damage on the retain set, which was not given; give it with "
                "--retain FILE, or how far with task_vector.scale"
            )
        return super().prepare(model, sets)

    def rules(self) -> Sequence[Rule]:
        """What is looked at is the negative."""
        return (Negated(self.config.scale, self.config.budget, self._damage),)

    def _damage(self, sets: Mapping[str, ExampleSet]) -> Damage:
        return Damage(self.recall, sets["retain"], self.config.probe_rows)

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """One step of learning what must go; retain is only read."""
        return (LEARN,)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token mean of −log p."""
        return likelihood(model, batches, {"forget": 1.0})


METHOD = TaskVector
