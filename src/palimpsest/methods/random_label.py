"""Random labels (RL): learn wrong labels for the forget set, the right ones for the retain set.

Source: Graves et al. 2021, "Amnesiac Machine Learning", arXiv:2010.10981, section on unlearning by relabelling; the
joint fine-tuning on both sets is the loss of SalUn, arXiv:2310.12508, without its mask.

    L = − forget_weight · mean log p(y' of the forget tokens) − retain_weight · mean log p(retain tokens)
    y' uniform over all labels but the right one, drawn anew at each step

Departs from the paper: both sets in every step, where the code named below goes over the forget set and then over the
retain set (CIFAR-10) or shuffles both together (CIFAR-100). For text each label token is replaced by any other of the
vocabulary, the tokens before it stay.
Official code: github.com/OPTML-Group/Unlearn-Saliency (MIT), Classification/unlearn/RL.py; its labels are uniform over
all classes, the right one included.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import wrong_and_right


class RandomLabelConfig(Config):
    """Options of random labels."""

    forget_weight: float = Field(default=1.0, ge=0)
    """Factor of the loss on the wrong labels."""
    retain_weight: float = Field(default=1.0, ge=0)
    """Factor of the loss on the retain set."""


class RandomLabel(Method):
    """Descend on wrong labels of the forget set and right ones of the retain set, in one step."""

    Config = RandomLabelConfig
    use_when = (
        "a class of images must go; the plain form of salun. "
        "Not where the answers should look unlearned: it pushes towards wrong labels, which an attack can see."
    )
    approach = "relabelling"
    needs = ("forget", "retain")
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both sides."""
        weights = {"wrong": self.config.forget_weight, "right": self.config.retain_weight}
        return wrong_and_right(model, batches, **weights)


METHOD = RandomLabel
