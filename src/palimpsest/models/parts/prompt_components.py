"""Prompt components: a prefix that is a weighted sum of many small ones, layer by layer (CODA-Prompt).

    w_m = cos( q ⊙ A_m , K_m )          [K_p ; V_p] = Σ_m w_m P_m

Each part has the components of one task; the sum runs over those of all tasks, and earlier ones are frozen. New ones
begin orthogonal to all earlier ones (Gram-Schmidt), in P, in K and in A, layer by layer. A task is deleted by removing
its part: its components then are in no sum.

Shape legend: B rows, L layers, M components, P positions of a prefix, W width of a key over all heads, D of the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.models.parts.part import PartConfig
from palimpsest.models.parts.prefixing import PrefixConfig, PrefixPart
from palimpsest.models.prompt_weights import attended_cosines, off_orthogonal, orthogonal_to


class PromptComponentsConfig(PrefixConfig):
    """Options of the components of a task."""

    length: int = Field(default=4, ge=1)
    """Positions of the prefix; a component has as many for keys as for values."""
    components: int = Field(default=10, ge=1)
    """M, of this task."""


class PromptComponents(PrefixPart):
    """Components of one task, with a key and an attention each."""

    Config = PromptComponentsConfig
    kind = "prompt_components"

    def __init__(self, config: PromptComponentsConfig) -> None:
        super().__init__(config, config.components)
        many = (len(config.layers), config.components)
        self.prompt_LM2PW = nn.Parameter(torch.rand(*many, 2, config.length, config.width))
        self.key_LMD = nn.Parameter(torch.rand(*many, config.query_width))
        self.attention_LMD = nn.Parameter(torch.rand(*many, config.query_width))

    @classmethod
    def example(cls, at: str, width: int) -> PromptComponentsConfig:
        """One layer; keys half as wide as queries, as where two heads of queries share one of keys."""
        sizes = {"width": width // 2, "query_width": width, "length": 2, "components": 3}
        return PromptComponentsConfig(layers=(PartConfig(at=at),), **sizes)

    @torch.no_grad()
    def begin_beside(self, earlier: Sequence[PromptComponents]) -> None:
        """Make every component orthogonal to earlier ones, and of length 1, as far as there is room."""
        for name in ("prompt_LM2PW", "key_LMD", "attention_LMD"):
            own = getattr(self, name)
            for number, vectors in enumerate(own):
                before = [getattr(part, name)[number].to(own).flatten(1) for part in earlier]
                flat = vectors.flatten(1)
                made = orthogonal_to(flat, torch.cat(before) if before else flat[:0])
                vectors.copy_(made.view_as(vectors))

    @classmethod
    def share(cls, parts: Sequence[Any], query_BD: Float[Tensor, "B D"]) -> None:
        """Weigh all components, in every layer."""
        for part in parts:
            pairs = zip(part.attention_LMD, part.key_LMD, strict=True)
            weights = [attended_cosines(query_BD, attention_MD, key_MD) for attention_MD, key_MD in pairs]
            part.weight_BM = torch.stack(weights).mean(0)
            part.acts_with(parts, weights)

    def overlap_with(self, earlier: Sequence[PromptComponents]) -> Float[Tensor, ""]:
        """How far the components of all tasks are from orthogonal: mean over P, K and A of every layer."""
        found = []
        for name in ("prompt_LM2PW", "key_LMD", "attention_LMD"):
            for number, vectors in enumerate(getattr(self, name)):
                before = [getattr(part, name)[number].flatten(1) for part in earlier]
                found.append(off_orthogonal(torch.cat([*before, vectors.flatten(1)])))
        return torch.stack(found).mean()


PART = PromptComponents
