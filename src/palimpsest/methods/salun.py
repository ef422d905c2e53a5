"""SalUn: random labels under a saliency mask; only the weights that the forget set pulls at hardest may move.

Source: Fan et al. 2024, "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image
Classification and Generation", arXiv:2310.12508, its mask and its loss for classification.

    m = 1[ |∂ L_forget / ∂θ| among the largest ``share`` of all weights ],   once, at the weights before the run
    L = − forget_weight · mean log p(y' of the forget tokens) − retain_weight · mean log p(retain tokens)
    θ ← m ⊙ step(θ) + (1 − m) ⊙ θ,   y' uniform over all labels but the right one, drawn anew at each step

Weights outside the mask stay bit-identical: momentum, Adam's moments and weight decay cannot move them.

Departs from the paper: as ``random_label``: both sets in every step, for text any other token of the vocabulary as the
wrong label. Under LoRA the mask takes only the adapter's second factor, since the first has no gradient at the start.
Official code: github.com/OPTML-Group/Unlearn-Saliency@a6e89fd (MIT). Its newest commit restores masked weights and
masks the momentum as well; all before it leak. Earlier versions of its mask kept the least salient weights, and moved
the model while the gradient was summed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.scope import trainable
from palimpsest.rules.saliency_batches import batch_losses
from palimpsest.rules.saliency_bits import restore_masked, top_share
from palimpsest.rules.saliency_scores import gradient_sum


class SalUnConfig(Config):
    """Options of SalUn."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Of the weights that may move; the paper's default is 0.5, 1 is random labels without a mask."""
    forget_weight: float = Field(default=1.0, ge=0)
    """Factor of the loss on the wrong labels."""
    retain_weight: float = Field(default=1.0, ge=0)
    """Factor of the loss on the retain set, the paper's alpha."""
    mask_examples: int = Field(default=4096, ge=1)
    """At most so many forget examples are looked at for the mask; the paper looks at all."""
    mask_batch: int = Field(default=8, ge=1)
    """Examples per mini-batch of the mask's gradient; what does not fill one is left out."""


def wrong_labels(target_S: Int[Tensor, "S"], num_labels: int) -> Int[Tensor, "S"]:
    """Labels uniform over 0 .. num_labels − 1 but for the right one, >= 2 of them, from torch's CPU generator."""
    # Drawn on the CPU one by one: the same labels however a step is cut into micro-batches, on any device.
    offset_S = torch.randint(1, num_labels, target_S.shape).to(target_S.device)
    return (target_S + offset_S) % num_labels


class SalUn(Method):
    """Descend on wrong labels of the forget set and right ones of the retain set, strictly within the mask."""

    Config = SalUnConfig
    use_when = (
        "a class of images must go; the usual one for images. "
        "Not for random single images, where it stops with a sixth of the way left; not for texts, where icu is "
        "the usual one."
    )
    needs = ("forget", "retain")
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Build the mask at the weights the run starts from; freeze the parameters that are wholly outside it."""
        config: SalUnConfig = self.config
        losses = batch_losses(model, sets["forget"], limit=config.mask_examples, batch_size=config.mask_batch)
        self.mask = top_share(gradient_sum(model, losses), config.share)
        for name, parameter in trainable(model).items():
            parameter.requires_grad_(bool(self.mask.mask(name).any()))
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both sides."""
        forget, retain = batches["forget"].predict(model), batches["retain"].predict(model)
        mislabelled = replace(forget, target_S=wrong_labels(forget.target_S, forget.logits_SV.shape[1]))
        return {
            "wrong": Term(-mislabelled.logp_S.sum(), of="forget", weight=self.config.forget_weight),
            "retain": Term(-retain.logp_S.sum(), of="retain", weight=self.config.retain_weight),
        }

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Mask the gradient."""
        self.mask.apply_(model)

    def update(self, model: nn.Module, phase: Phase, step: Callable[[], None]) -> None:
        """A step that leaves the weights outside the mask alone."""
        with restore_masked(model, self.mask):
            step()


METHOD = SalUn
