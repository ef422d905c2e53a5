"""What batches of images and of texts with a class have alike: the class alone is scored, one position per example."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from palimpsest.data.encode.batch import WholeBatch


class ClassBatch(WholeBatch):
    """Examples with one class each."""

    label_B: Int[Tensor, "B"]

    @property
    def num_scored(self) -> int:
        """One position per example."""
        return len(self.ids)

    @property
    def target_S(self) -> Int[Tensor, "S"]:
        """The classes."""
        return self.label_B

    @property
    def owner_S(self) -> Int[Tensor, "S"]:
        """Each example owns its one position."""
        return torch.arange(len(self.ids), device=self.label_B.device)
