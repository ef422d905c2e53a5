"""SSD: selective synaptic dampening; weights that matter more to forget than to all data are shrunk, once.

Source: Foster, Schoepf, Brintrup 2024, "Fast Machine Unlearning Without Retraining Through Selective Synaptic
Dampening", AAAI 2024, arXiv:2308.07707.

    θ_j ← β_j θ_j   where  F^f_j > α F^D_j,   β_j = min( λ F^D_j / F^f_j, 1 );   θ_j where not
    α the smallest of [1, ∞) with  mean KL( p_θ₀ ‖ p_θ ) ≤ B  on retain

F is the diagonal Fisher per example, D all that was learned: forget and retain, each by its size. α chooses which
weights are dampened and λ by how much; a larger α takes fewer. In the paper α is 10 or so for ResNets and λ is 1, found
by a search for each setting; here α is as small as what stays can bear, unless it is given.

Departs from the paper: that search; the Fisher is the model's own (``rules/fisher_sketch.py``), where the code squares
mean gradients of mini-batches at the data's labels, which is next to nothing for what is known by heart.
Official code: github.com/if-loops/selective-synaptic-dampening, not run by us.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method
from palimpsest.errors import PlanError
from palimpsest.models.scope import trainable
from palimpsest.rules.damage_budget import Damage, largest_within
from palimpsest.rules.fisher_sketch import sketched_fisher

USUAL_ALPHA = 10.0  # the paper's for ResNets: the search begins there


class SSDConfig(Config):
    """Options of selective synaptic dampening."""

    alpha: float | None = Field(default=None, ge=0)
    """α: a weight is dampened where it matters so many times more to forget; None = found by the budget, at least 1."""
    dampening: float = Field(default=1.0, gt=0)
    """λ: how gently; 1 in the paper."""
    budget: float = Field(default=0.05, gt=0)
    """B: damage that is allowed, as the mean KL on retain in nats per scored position."""
    fisher_examples: int = Field(default=512, ge=1)
    """At most so many examples of each set are looked at for the Fisher."""
    fisher_batch: int = Field(default=4, ge=1)
    """Examples per backward pass of it."""
    probe_rows: int = Field(default=256, ge=1)
    """Rows of retain on which the damage is read."""


def dampened(
    weight: Float[Tensor, "..."],
    forget: Float[Tensor, "..."],
    whole: Float[Tensor, "..."],
    *,
    alpha: float,
    dampening: float,
) -> Float[Tensor, "..."]:
    """θ with its selected entries shrunk.

    Args:
        weight: θ.
        forget: F^f, of its shape.
        whole: F^D.
        alpha: α.
        dampening: λ.

    >>> theta, forget, whole = torch.tensor([2.0, 2.0, 2.0]), torch.tensor([8.0, 2.0, 0.0]), torch.ones(3)
    >>> dampened(theta, forget, whole, alpha=4.0, dampening=1.0).tolist()
    [0.25, 2.0, 2.0]
    """
    tiny = torch.finfo(torch.float32).tiny
    beta = (dampening * whole / forget.clamp(min=tiny)).clamp(max=1.0)
    return torch.where(forget > alpha * whole, (weight.float() * beta).to(weight.dtype), weight)


class SSD(Method):
    """Shrink what forget leans on more than all else does."""

    Config = SSDConfig
    use_when = (
        "a class must go in seconds and without a step. "
        "Not for single images whose class stays: no weight serves them alone."
    )
    approach = "editing"
    needs = ("forget", "retain")
    reference_sets = frozenset({"retain"})
    edits = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """There are weights to shrink.

        Raises:
            PlanError: an adapter is to move, whose second factor is 0 at the start.
        """
        if hasattr(model, "disable_adapter"):
            raise PlanError(
                "ssd shrinks the weights themselves, and those of a new adapter are nothing yet; accepted: "
                "scope.kind = all, or layers"
            )
        self._found: Mapping[str, float] = {}
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Both Fishers, then the smallest threshold."""
        options: SSDConfig = self.config
        sample = {"limit": options.fisher_examples, "batch_size": options.fisher_batch}
        self._forget, retain = (sketched_fisher(model, sets[name], **sample) for name in ("forget", "retain"))
        share = len(sets["forget"]) / (len(sets["forget"]) + len(sets["retain"]))
        self._whole = {n: share * f + (1 - share) * retain[n] for n, f in self._forget.items()}
        start = {name: weight.detach().clone() for name, weight in trainable(model).items()}
        damage = Damage(self.recall, sets["retain"], options.probe_rows)
        alpha, read = self._chosen(model, start, damage)
        self._put(model, start, alpha)
        self._found = {"alpha": alpha, "damage": read, "dampened": self._share(alpha)}
        self._forget, self._whole = {}, {}
        return sorted(start)

    def _chosen(self, model: nn.Module, start: Mapping[str, Tensor], damage: Damage) -> tuple[float, float]:
        """α, and the damage at it."""

        def damage_at(size: float) -> float:
            self._put(model, start, 1 / size)
            return damage(model)

        if self.config.alpha is not None:
            self._put(model, start, self.config.alpha)
            return self.config.alpha, damage(model)
        found = largest_within(damage_at, self.config.budget, first=1 / USUAL_ALPHA, most=1.0)
        return (1 / found.size if found.size else float("inf")), found.damage

    @torch.no_grad()
    def _put(self, model: nn.Module, start: Mapping[str, Tensor], alpha: float) -> None:
        """The weights dampened at α, always from the start."""
        for name, weight in trainable(model).items():
            fisher = self._forget[name], self._whole[name]
            weight.copy_(dampened(start[name], *fisher, alpha=alpha, dampening=self.config.dampening))

    def _share(self, alpha: float) -> float:
        """Of all weights, those that are dampened."""
        chosen = sum(int((f > alpha * self._whole[name]).sum()) for name, f in self._forget.items())
        return chosen / sum(f.numel() for f in self._forget.values())

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """α, the damage at it, and the share of the weights that were dampened."""
        return self._found


METHOD = SSD
