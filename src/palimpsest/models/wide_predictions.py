"""Predictions with further numbers of the same pass beside them: what another classifier says of some features.

Shape legend: B rows of a pass, S scored positions of a batch, T tokens, K classes, A further numbers, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, Predictions

Watching = Callable[[], AbstractContextManager[list[Tensor]]]
"""Collects the features of the passes in a block, (B, D) or (B, T, D) each."""


class _AskedForMore(nn.Module):
    """A model whose logits are followed by further numbers for each row."""

    def __init__(self, model: nn.Module, watching: Watching, more: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.config = model, getattr(model, "config", None)
        self._watching, self._more = watching, more
        self.classes = 0

    def forward(self, **inputs: Any) -> Any:
        """Logits (B, K) and what is said of the features, (B, A), one behind the other."""
        with self._watching() as told:
            logits = self.model(**inputs).logits
        self.classes = logits.shape[-1]
        more = self._more(_at_the_class(told[-1], inputs))
        return SimpleNamespace(logits=torch.cat([logits, more], dim=-1))


def _at_the_class(features: Tensor, inputs: Mapping[str, Any]) -> Float[Tensor, "B D"]:
    """Features where the class is read; a head that is asked at every token is a decoder's, which reads the last."""
    if features.ndim == 2:
        return features
    last_B = inputs["attention_mask"].sum(dim=1) - 1
    return features[torch.arange(len(last_B), device=last_B.device), last_B]


def predict_beside(
    model: nn.Module, batches: Mapping[str, Batch], watching: Watching, more: Callable[[Tensor], Tensor]
) -> dict[str, tuple[Predictions, Float[Tensor, "S A"]]]:
    """As ``predict_together``, with what is said of the features in the same pass.

    Args:
        model: a classifier of images or texts.
        batches: of one step.
        watching: collects the features of a pass.
        more: of features (B, D), what is said of them, (B, A).
    """
    asked = _AskedForMore(model, watching, more)
    first, *others = (batch.bare for batch in batches.values())
    found = {}
    for (name, batch), said in zip(batches.items(), first.predict_with(asked, others), strict=True):
        seen = batch.seen(replace(said, logits_SV=said.logits_SV[:, : asked.classes]))
        found[name] = seen, batch.shown(said.logits_SV[:, asked.classes :])
    return found
