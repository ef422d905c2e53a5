"""A soft prompt: embeddings that are learned and stand before every text.

    logits(text) <- logits(scale · W, embeddings of the text), without the positions of the prompt

Source: Lester, Al-Rfou, Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021,
arXiv:2104.08691.

Departs from the paper: W is in units of the size of the model's own embeddings, and starts with drawn numbers of that
size, as a model behind an endpoint shows no embedding to start from. Such a model is given the prompt with the tokens.

Shape legend: B rows, P positions of the prompt, D width of an embedding, N = P · D numbers of a prompt, K prompts to
choose from, T tokens of a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.models.parts import parts_of
from palimpsest.models.parts.before_text import BeforeText, BeforeTextConfig
from palimpsest.models.parts.beside_cache import given_to

PROMPT_ARGUMENT = "soft_prompt"
"""Argument of a model that takes a soft prompt itself."""


class SoftPromptConfig(BeforeTextConfig):
    """Options of a soft prompt."""

    width: int = Field(ge=1)
    """Numbers of an embedding."""
    scale: float = Field(gt=0)
    """Root mean square of a number of the model's embeddings."""
    seed: int = 0
    """Of its first numbers, and of the directions along which it is tried."""
    unlearns: bool = False
    """It keeps from being said what the weights still know."""


class SoftPrompt(BeforeText):
    """One soft prompt for all texts."""

    Config = SoftPromptConfig
    kind = "soft_prompt"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config.unlearns:  # this one, not its kind
            self.hides, self.keeps = True, "numbers that were tuned on them, in the part soft_prompt"  # type: ignore[misc]
        self.prompt_D = nn.Parameter(self.draws(1)[0])
        self._tried_BN: Tensor | None = None

    @classmethod
    def example(cls, at: str, width: int) -> SoftPromptConfig:
        """Two positions."""
        return SoftPromptConfig(length=2, width=width, scale=1.0)

    def draws(self, number: int) -> Float[Tensor, "K N"]:
        """Prompts to start with, the same for a seed; the first is what it starts with if nobody chooses."""
        drawn = torch.Generator().manual_seed(self.config.seed)
        numbers = self.config.length * self.config.width
        return torch.stack([torch.randn(numbers, generator=drawn) for _ in range(number)])

    def before(self, rows: int) -> Float[Tensor, "B P D"]:
        """As it stands before each of so many texts; of those that are tried, each before its own."""
        at_BN = self.prompt_D[None] if self._tried_BN is None else self._tried_BN
        factor: float = self.alpha * self.config.scale
        return (factor * at_BN.reshape(-1, self.config.length, self.config.width)).expand(rows, -1, -1)

    @contextmanager
    def trying(self, prompt_BN: Float[Tensor, "B N"]) -> Iterator[None]:
        """In the block others stand in its place: one for each text, or one for all."""
        self._tried_BN = prompt_BN
        try:
            yield
        finally:
            self._tried_BN = None

    def led(self, model: nn.Module, text_BT: Tensor) -> dict[str, Tensor]:
        """Embeddings, behind this prompt and all others of the model."""
        embed: Any = model.get_input_embeddings()  # type: ignore[operator]  # of transformers
        text_BTD = embed(text_BT)
        prompts = [prompt.before(len(text_BT)).to(text_BTD.dtype) for prompt in _prompts_of(model)]
        return {"inputs_embeds": torch.cat([*prompts, text_BTD], 1)}

    def led_by(self, model: nn.Module) -> int:
        """Of all soft prompts of the model together."""
        return sum(prompt.config.length for prompt in _prompts_of(model))

    def _before(self, model: nn.Module, arguments: Any, options: Any) -> Any:
        """Put all soft prompts before the text, if this is the first, or hand it to a model that does that itself."""
        if self.is_off or not getattr(model, f"takes_{PROMPT_ARGUMENT}", False):
            leads = self.is_off or _prompts_of(model)[-1] is self
            return super()._before(model, arguments, options) if leads else None
        given = given_to(model, arguments, options)
        self._asked = None
        mine_BPD = self.before(len(given["input_ids"]))
        before = [given[PROMPT_ARGUMENT]] if given.get(PROMPT_ARGUMENT) is not None else []
        return (), {**given, PROMPT_ARGUMENT: torch.cat([mine_BPD, *before], 1)}


def _prompts_of(model: nn.Module) -> list[SoftPrompt]:
    """Soft prompts of a model that are on: the newest first, as each new one stands before all there is."""
    return [part for part in reversed(parts_of(model)) if isinstance(part, SoftPrompt) and not part.is_off]


PART = SoftPrompt
