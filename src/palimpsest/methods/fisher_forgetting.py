"""Fisher forgetting: noise on every weight, the less the more what stays depends on it.

Source: Golatkar, Achille, Soatto 2020, "Eternal Sunshine of the Spotless Net", arXiv:1911.04933, the scrubbing
procedure with the diagonal Fisher; the treatment of a class's row of the head is that of its published code, known from
copies.

    θ = θ₀ + a · n ⊙ (F_R + floor · mean F_R)^(−power),   n ~ N(0, I),   a the largest with  mean KL( p_θ₀ ‖ p_θ ) ≤ B
    class variant, before it: of a class that retain has no example of, the row of the head becomes the mean of the
    other rows, or goes as far towards it as half of B lets, and gets no noise

on retain. In the paper the standard deviation is (λ σ²)^(1/4) F^(−1/4), so power is 1/4 and a holds λ; its code takes
1/2, which is the default here: then every weight does the same damage, F (a F^(−1/2))² / 2, and on a model that knows
six rows beside ten by heart forget rose four times as far as retain, where with 1/4 both rose alike.

Departs from the paper: a is found on retain; the Fisher is the model's own, by ``rules/fisher_sketch.py``; the code
sets the class's row to 0, after which its logit is the *largest* wherever all others are negative: a mean of the others
never is. The noise takes in no forget example, so of single images whose class stays it forgets no more than it
damages.
Official code: github.com/AdityaGolatkar/SelectiveForgetting, not run by us.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method
from palimpsest.data.encode.gone_classes import gone_classes
from palimpsest.models.families import of_model
from palimpsest.models.scope import trainable
from palimpsest.rules.damage_budget import Damage, WeightLine, largest_within
from palimpsest.rules.fisher_sketch import sketched_fisher


class FisherForgettingConfig(Config):
    """Options of Fisher forgetting."""

    budget: float = Field(default=0.05, gt=0)
    """B: damage that is allowed, as the mean KL on retain in nats per scored position."""
    power: float = Field(default=0.5, gt=0, le=1)
    """Of the inverse Fisher in the standard deviation; 0.5 in the published code, 0.25 in the paper."""
    floor: float = Field(default=1e-3, gt=0)
    """Share of the mean Fisher that is added, so that a weight without any use gets finite noise."""
    fisher_examples: int = Field(default=512, ge=1)
    """At most so many retain examples are looked at for the Fisher."""
    fisher_batch: int = Field(default=4, ge=1)
    """Examples per backward pass of it."""
    probe_rows: int = Field(default=256, ge=1)
    """Rows of retain on which the damage is read."""
    seed: int = Field(default=0, ge=0)
    """Of the noise."""


def scrubbing_noise(
    fisher: Mapping[str, Float[Tensor, "..."]], *, power: float, floor: float, seed: int
) -> dict[str, Float[Tensor, "..."]]:
    """N · (F + floor · mean F)^(−power), by name; the mean is over all weights.

    Args:
        fisher: of what stays, >= 0.
        power: 0.5 or 0.25.
        floor: share of the mean.
        seed: of n.
    """
    generator = torch.Generator().manual_seed(seed)
    count = sum(f.numel() for f in fisher.values())
    least = floor * float(sum(f.double().sum() for f in fisher.values())) / count
    least = max(least, torch.finfo(torch.float32).tiny)
    return {
        name: torch.randn(f.shape, generator=generator).to(f.device) * (f + least).pow(-power)
        for name, f in fisher.items()
    }


def mean_of_others(rows_K: Float[Tensor, "K ..."], gone: tuple[int, ...]) -> Float[Tensor, "K ..."]:
    """Rows of a head in which those of classes that go are the mean of the others.

    >>> mean_of_others(torch.tensor([[1.0], [5.0], [3.0]]), (1,)).tolist()
    [[1.0], [2.0], [3.0]]
    """
    kept = [row for row in range(len(rows_K)) if row not in gone]
    changed = rows_K.clone()
    changed[list(gone)] = rows_K[kept].mean(0)
    return changed


class FisherForgetting(Method):
    """Add noise by the inverse Fisher of retain, as much as retain can bear."""

    Config = FisherForgettingConfig
    use_when = "a class must go at once, at a damage you state. Not for single images: the noise looks at none of them."
    approach = "editing"
    needs = ("forget", "retain")
    reference_sets = frozenset({"retain"})
    edits = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Nothing is found yet."""
        self._found: Mapping[str, float] = {}
        return super().prepare(model, sets)

    @torch.no_grad()
    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Fisher, noise, the head's rows; then how far."""
        options: FisherForgettingConfig = self.config
        fisher = sketched_fisher(model, sets["retain"], limit=options.fisher_examples, batch_size=options.fisher_batch)
        noise = scrubbing_noise(fisher, power=options.power, floor=options.floor, seed=options.seed)
        damage = Damage(self.recall, sets["retain"], options.probe_rows)
        gone = gone_classes(sets["forget"], sets["retain"])
        for name in _rows_of_the_head(model, noise):
            noise[name][list(gone)] = 0.0  # else the noise, largest where retain needs nothing, may raise them again
        moved = _silenced(model, gone, damage, options.budget / 2)
        line = WeightLine({name: weight.detach().clone() for name, weight in trainable(model).items()}, noise)
        found = vars(line.go_within(model, damage, options.budget))
        self._found = {**found, "damage": damage(model), "classes": float(len(gone)), "silenced": moved}
        return line.names

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """How far noise and rows went, and at what damage."""
        return self._found


def _silenced(model: nn.Module, gone: tuple[int, ...], damage: Damage, budget: float) -> float:
    """Move the rows of classes that go to the mean of the others, all the way or as far as a budget lets; how far."""
    weights = trainable(model)
    start = {name: weights[name].detach().clone() for name in _rows_of_the_head(model, weights)}
    if not gone or not start:
        return 0.0
    line = WeightLine(start, {name: rows - mean_of_others(rows, gone) for name, rows in start.items()})

    def damage_at(share: float) -> float:
        line.put(model, share)
        return damage(model)

    found = largest_within(damage_at, budget, first=1.0, most=1.0)
    line.put(model, found.size)
    return found.size


def _rows_of_the_head(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the head's weight and bias, as far as they may move."""
    head = of_model(model).head(model)
    own = {id(parameter) for parameter in ([] if head is None else head.parameters())}
    return [name for name, parameter in model.named_parameters() if id(parameter) in own and name in weights]


METHOD = FisherForgetting
