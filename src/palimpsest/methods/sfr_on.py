"""SFR-on: saliency forgetting in the remain-preserving manifold, online.

Source: Huang et al. 2024, "Unified Gradient-Based Machine Unlearning with Remain Geometry Enhancement",
arXiv:2409.19732, and the configuration of its released classification code.

    g_U   = ∇ Σ_i w_i l_i / Σ_i w_i,   w_i = l_i^−temperature (detached)                  over a forget batch
    θ^f   = θ_k + step of clip(ascent · s_k · m ⊙ g_U, fast_norm)    every ``every`` steps, s_k cosine to 0
    θ_k+1 = θ^f − step of ∇ L_R                                                           every step
    m     = 1[ F^U / F^R ≥ gamma ],   F = mean over mini-batches of the squared mini-batch gradient, at θ_0

The image recipe (SGD 0.01, momentum 0.9) has ascent 25 and fast_norm 7: the clip then binds until the forget set is
mostly gone. It is UG-CLU without a learn set, with a raw mask and a clip that does not fall.

Departs from the paper: masked weights are put back after an ascent step (``strict``; the code lets momentum and weight
decay move them), forget batches leave running statistics alone, the figure's 1 − k/K is ``annealing="linear"``.
Official code: github.com/K1nght/Unified-Unlearning-w-Remain-Geometry@36bb7f6; its slow weights are a no-op (rate 1) and
are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.rules.coefficients import inverse_power
from palimpsest.rules.saliency_batches import MaskSample, masks_of_sets
from palimpsest.rules.saliency_bits import SaliencyMask, restore_masked
from palimpsest.rules.schedule import Annealing, ascent_scale
from palimpsest.terms import likelihood


class SFROnConfig(Config):
    """Options of SFR-on."""

    every: int = Field(default=5, ge=1)
    """Retain steps per ascent step; the code's CIFAR-10 recipe has 5, TinyImageNet 1."""
    ascent: float = Field(default=25.0, ge=0)
    """Factor of the ascent before clipping; the CIFAR-10 recipe has 25."""
    annealing: Annealing = "cosine"
    """How the ascent falls to 0; cosine in the code."""
    temperature: float = Field(default=0.5, ge=0)
    """λ of the adaptive coefficients; 0.5 for CIFAR-10."""
    fast_norm: float = Field(default=7.0, ge=0)
    """Clip the masked ascent gradient to this L2 norm; 7 in the code's classification recipes, 0 = off."""
    gamma: float = Field(default=1.0, ge=0)
    """Threshold of the mask; 0 = no mask."""
    normalise: bool = False
    """Divide each Fisher by its mean, so that gamma is scale-free; not in the paper."""
    strict: bool = True
    """Put masked weights back after an ascent step."""
    mask_examples: int = Field(default=4096, ge=1)
    """At most so many examples of each set are looked at for the mask; the paper looks at all."""
    mask_batch: int = Field(default=8, ge=1)
    """Examples per mini-batch of the Fisher estimate."""


class SFROn(Method):
    """Masked, annealed ascent on forget between descent steps on retain."""

    Config = SFROnConfig
    use_when = (
        "images must go under a mask; the published ancestor of ug_clu. "
        "Not where something is learned in the same run (ug_clu does that); beside ug_clu it was mostly further "
        "from the oracle."
    )
    approach = "ascent"
    options_for_images = {"fast_norm": 1.0, "mask_batch": 32}
    repairs_itself = True
    cycle_option = "every"
    needs = ("retain", "forget")

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Build the mask at the weights the run starts from."""
        super().prepare(model, sets)
        config: SFROnConfig = self.config
        self.mask: SaliencyMask | None = None
        if config.gamma > 0 and config.ascent > 0:
            saliency = masks_of_sets(
                model,
                {"forget": sets["forget"]},
                {"retain": sets["retain"]},
                sample=MaskSample(config.mask_examples, config.mask_batch),
                **config.model_dump(include={"gamma", "normalise"}),
            )
            self.mask = saliency.masks["forget"]
        return model

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """An ascent step every ``every`` steps, and a retain step."""
        scale = ascent_scale(self.config.annealing, step, planned, stop_share=0.0)
        repair = Phase("repair", ("retain",))
        if step % self.config.every or scale * self.config.ascent == 0:
            return (repair,)
        return (Phase("fast", ("forget",), scale=scale, max_grad_norm=self.config.fast_norm), repair)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The weighted mean over forget examples, or the token mean over retain."""
        if phase.name == "repair":
            return likelihood(model, batches)
        loss_B = batches["forget"].predict(model).nll_B
        w_B = inverse_power(loss_B, self.config.temperature)
        ascent = Term((w_B * loss_B).sum(), of="forget", weight=-self.config.ascent * phase.scale, count=w_B.sum())
        return {"forget": ascent}

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Mask the ascent gradient, before clipping."""
        if phase.name == "fast" and self.mask is not None:
            self.mask.apply_(model)

    def update(self, model: nn.Module, phase: Phase, step: Callable[[], None]) -> None:
        """One optimizer step; an ascent step strictly within the mask."""
        mask = self.mask if phase.name == "fast" and self.config.strict else None
        with nullcontext() if mask is None else restore_masked(model, mask):
            step()


METHOD = SFROn
