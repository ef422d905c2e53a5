"""The kinds of encoded sets there are, by what is scored of an example."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from palimpsest.data.encode.batch import TextSet
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.labelled import LabelSet

ClassSet = ImageSet | LabelSet
"""One class of each example."""
MeasuredSet = TextSet | ClassSet
"""Tokens, of texts and of completions (``PairSet`` is a ``TextSet``), or a class."""


def labels_of(examples: Any) -> Int[Tensor, "N"]:
    """Classes of the rows of a set, in its order, however it is shown; on the CPU, and empty of a set of tokens."""
    while not hasattr(examples, "label_N") and hasattr(examples, "bare"):
        examples = examples.bare
    label_N: Tensor | None = getattr(examples, "label_N", None)
    return torch.zeros(0, dtype=torch.long) if label_N is None else label_N.cpu()
