"""SalUn: random labels under a saliency mask; only the weights that the forget set pulls at hardest may move.

Source: Fan et al. 2024, "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image
Classification and Generation", arXiv:2310.12508, its mask and its loss for classification.

    m = 1[ |∂ L_forget / ∂θ| among the largest ``share`` of all weights ],   once, at the weights before the run
    L = − forget_weight · mean log p(y' of the forget tokens) − retain_weight · mean log p(retain tokens)
    θ ← m ⊙ step(θ) + (1 − m) ⊙ θ,   y' uniform over all labels but the right one, drawn anew at each step

So it is ``random_label`` under the rule ``masked``: weights outside the mask stay bit-identical, whatever momentum,
Adam's moments and weight decay would do.

Departs from the paper: as ``random_label``: both sets in every step, for text any other token of the vocabulary as the
wrong label. Under LoRA the mask takes only the adapter's second factor, since the first has no gradient at the start.
Official code: github.com/OPTML-Group/Unlearn-Saliency@a6e89fd (MIT). Its newest commit restores masked weights and
masks the momentum as well; all before it leak. Earlier versions of its mask kept the least salient weights, and moved
the model while the gradient was summed.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.rules.masked import Masked, MaskedConfig
from palimpsest.terms import wrong_and_right


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


class SalUn(Method):
    """Descend on wrong labels of the forget set and right ones of the retain set, strictly within the mask."""

    Config = SalUnConfig
    use_when = (
        "a class of images must go; the usual one for images. "
        "Not for random single images, where it stops with a sixth of the way left; not for texts, where icu is "
        "the usual one."
    )
    approach = "relabelling"
    needs = ("forget", "retain")
    defaults = {"learning_rate": 1e-5}

    def rules(self) -> tuple[Masked]:
        """The strict mask of the forget set."""
        config: SalUnConfig = self.config
        return (Masked(MaskedConfig(share=config.share, examples=config.mask_examples, batch=config.mask_batch)),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both sides."""
        weights = {"wrong": self.config.forget_weight, "right": self.config.retain_weight}
        return wrong_and_right(model, batches, **weights)


METHOD = SalUn
