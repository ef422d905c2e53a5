"""Spring: each weight is held by a spring, the stiffer the more a set depends on it.

Source: the penalty of elastic weight consolidation, Kirkpatrick et al. 2017, arXiv:1612.00796, Eq. 3.

    g_j ← g_j + lambda F_j (θ_j − θ*_j)          the exact gradient of (lambda / 2) · Σ_j F_j (θ_j − θ*_j)²

θ* are the weights that the run starts from, F is the Fisher of the set there (``rules/fisher.py``): two more copies of
what may move. The spring pulls beside the gradient of the loss, before clipping; its energy is logged. Under LoRA the
adapter's first factor has F = 0, because its second starts at 0: only the second is held.

Departs from the paper: none, but that any objective can be held.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.method_card import Config
from palimpsest.models.scope import trainable
from palimpsest.rules.fisher import Labels, fisher_of
from palimpsest.rules.rule import Rule


class SpringConfig(Config):
    """Options of the spring."""

    of: str = "retain"
    """Set whose Fisher says how stiff it is."""
    strength: float = Field(default=100.0, ge=0)
    """lambda; the usual range is 100 to 1000. Being diagonal, F misses most of the curvature: 1 is far too weak. Plain
    gradient descent diverges where the logged ``stiffness`` is above 2."""
    examples: int = Field(default=256, ge=1)
    """At most so many examples of the set, drawn at random, make the Fisher: one backward pass each."""
    labels: Labels = "model"
    """Whose labels the Fisher is taken at: the model's own answers, as it is defined, or the set's."""
    draws: int = Field(default=4, ge=1)
    """Labels drawn at each position where there are too many to sum over: one backward pass each."""


def spring(
    fisher: Float[Tensor, "..."], moved: Float[Tensor, "..."], strength: float
) -> tuple[Float[Tensor, "..."], Float[Tensor, ""]]:
    """Gradient lambda · F ⊙ (θ − θ*) and energy of the penalty of one parameter.

    >>> spring(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 3.0]), strength=2.0)
    (tensor([6., 0.]), tensor(9.))
    """
    pull = strength * fisher * moved
    return pull, (pull * moved).sum() / 2  # Eq. 3, second term


class Spring(Rule):
    """The springs of one set."""

    Config = SpringConfig
    use_when = "what must stay may be looked at before the run and not trained on"

    @classmethod
    def reads(cls, config: SpringConfig) -> tuple[str, ...]:
        """The set that is held."""
        return (config.of,)

    @classmethod
    def decides(cls, config: Any) -> str:
        """Springs of different sets add up; two of one set are one of another strength."""
        return f"how stiff the springs of {config.of} are"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Keep the weights and take the Fisher; a method's own spring holds nothing where its set was not given."""
        self.start, self.fisher = dict[str, Tensor](), dict[str, Tensor]()
        self.penalty = 0.0
        if self.config.of in sets:
            options = self.config.model_dump(include={"labels", "draws"})
            self.start = {name: p.detach().clone() for name, p in trainable(model).items()}
            self.fisher = fisher_of(model, sets[self.config.of], limit=self.config.examples, **options)

    @torch.no_grad()
    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Add the spring's gradient."""
        parameters = trainable(model)
        energies = []
        for name, fisher in self.fisher.items():
            if (parameter := parameters.get(name)) is None:  # another rule froze it
                continue
            pull, energy = spring(fisher, (parameter - self.start[name]).float(), self.config.strength)
            own = pull.to(parameter.dtype)
            parameter.grad = own if parameter.grad is None else parameter.grad.add_(own)
            energies.append(energy)
        self.penalty = float(sum(energies))

    def diagnostics(self, learning_rate: float) -> dict[str, float]:
        """Energy of the springs before the step in nats, and learning rate · lambda · max F."""
        stiffest = max((float(fisher.max()) for fisher in self.fisher.values()), default=0.0)
        return {"penalty": self.penalty, "stiffness": learning_rate * self.config.strength * stiffest}


RULE = Spring
