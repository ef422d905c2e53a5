"""Prefix prompts: keys and values of their own before those of some attentions (DualPrompt).

    attention of layer l:  Q, [K_p ; K], [V_p ; V]

A part without a key acts on every example: the prompt of all tasks. Parts with a key compete: each is of one task, and
an example is given the one whose key is nearest to its query. While one of them is trained it is given to all, since
the rows of a step are its own task's. Frozen ones stay in the competition, so a task is deleted by removing its part.

Shape legend: B rows, L layers, M = 1, P positions of a prefix, W width of a key over all heads, D width of the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.models.parts.part import PartConfig
from palimpsest.models.parts.prefixing import PrefixConfig, PrefixPart
from palimpsest.models.parts.prompting import STD, one_hot_weights
from palimpsest.models.prompt_weights import key_cosines, nearest_prompts


class PrefixPromptConfig(PrefixConfig):
    """Options of a prefix prompt."""

    matched: bool = True
    """Has it a key, by which examples are given it? Without one all are."""


class PrefixPrompt(PrefixPart):
    """Keys and values for each of its layers, and a key by which it is chosen."""

    Config = PrefixPromptConfig
    kind = "prefix_prompt"

    def __init__(self, config: PrefixPromptConfig) -> None:
        super().__init__(config, 1)
        shape = (len(config.layers), 1, 2, config.length, config.width)
        self.prompt_LM2PW = nn.Parameter(torch.randn(shape) * STD)
        self.key_D = nn.Parameter(torch.randn(config.query_width) * STD) if config.matched else None

    @classmethod
    def example(cls, at: str, width: int) -> PrefixPromptConfig:
        """One layer; keys half as wide as queries, as where two heads of queries share one of keys."""
        return PrefixPromptConfig(layers=(PartConfig(at=at),), width=width // 2, query_width=width, length=2)

    @property
    def asks(self) -> bool:
        """The prompt of all tasks needs no query."""
        return bool(self.config.matched)

    @classmethod
    def share(cls, parts: Sequence[Any], query_BD: Float[Tensor, "B D"]) -> None:
        """Choose one of those with a key for each row; one that is trained is given to all."""
        score_BR = key_cosines(query_BD, torch.stack([part.key_D for part in parts]))
        chosen_B1 = nearest_prompts(score_BR, 1)
        taught = [number for number, part in enumerate(parts) if part.is_new and part.training]
        if taught:
            chosen_B1 = torch.full_like(chosen_B1, taught[-1])
        weight_BR = one_hot_weights(chosen_B1, len(parts))
        for number, part in enumerate(parts):
            part.weight_BM = weight_BR[:, number : number + 1]
            part.pull_B = (score_BR * weight_BR)[:, number]
            part.acts_with(parts, (part.weight_BM,), (score_BR,))


PART = PrefixPrompt
