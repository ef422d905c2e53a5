"""A prefix of examples before every text: in it what was forgotten is answered wrongly.

    logits(text) <- logits(prefix + text), without the positions of the prefix

Source: Pawelczyk et al. 2023, "In-Context Unlearning: Language Models as Few Shot Unlearners", arXiv:2310.07579.

The prefix is there in full, in the part's folder: it holds prompts of the forgotten rows word for word, and answers of
rows that stay. The weights still know everything, and whoever leaves the part off has it again.

Shape legend: B rows, P tokens of the prefix, T tokens of a text.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from palimpsest.models.parts.before_text import BeforeText, BeforeTextConfig


class ExamplePrefixConfig(BeforeTextConfig):
    """Options of a prefix of tokens."""


class ExamplePrefix(BeforeText):
    """Tokens before every text."""

    Config = ExamplePrefixConfig
    tokens_P: Tensor
    kind = "example_prefix"
    keeps = "their questions word for word, beside rows that stay, in the part example_prefix: personal data, in full"
    hides = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("tokens_P", torch.zeros(config.length, dtype=torch.long))

    @classmethod
    def example(cls, at: str, width: int) -> ExamplePrefixConfig:
        """Two tokens."""
        return ExamplePrefixConfig(length=2)

    def led(self, model: nn.Module, text_BT: Tensor) -> dict[str, Tensor]:
        """Tokens."""
        return {"input_ids": torch.cat([self.tokens_P.expand(len(text_BT), -1).to(text_BT), text_BT], 1)}


PART = ExamplePrefix
