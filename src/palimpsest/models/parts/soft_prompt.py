"""A soft prompt: embeddings that are learned and stand before every text.

    logits(text) <- logits(scale · W, embeddings of the text), without the positions of the prompt

Source: Lester, Al-Rfou, Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021,
arXiv:2104.08691.

Departs from the paper: W is in units of the size of the model's own embeddings, and starts with drawn numbers of that
size, as a model behind an endpoint shows no embedding to start from. Such a model is given the prompt with the tokens.

Shape legend: B rows, P positions of the prompt, D width of an embedding, T tokens of a text.
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
        drawn = torch.Generator().manual_seed(config.seed)
        self.prompt_D = nn.Parameter(torch.randn(config.length * config.width, generator=drawn))
        self._tried_D: Tensor | None = None

    @classmethod
    def example(cls, at: str, width: int) -> SoftPromptConfig:
        """Two positions."""
        return SoftPromptConfig(length=2, width=width, scale=1.0)

    @property
    def prompt_PD(self) -> Float[Tensor, "P D"]:
        """As it stands before a text; of several that are tried the one at hand."""
        at_D = self.prompt_D if self._tried_D is None else self._tried_D
        shaped_PD: Tensor = at_D.reshape(self.config.length, self.config.width)
        factor: float = self.alpha * self.config.scale
        return factor * shaped_PD

    @contextmanager
    def trying(self, prompt_D: Float[Tensor, "D"]) -> Iterator[None]:
        """In the block another one stands in its place."""
        self._tried_D = prompt_D
        try:
            yield
        finally:
            self._tried_D = None

    def led(self, model: nn.Module, text_BT: Tensor) -> dict[str, Tensor]:
        """Embeddings, behind this prompt and all others of the model."""
        embed: Any = model.get_input_embeddings()  # type: ignore[operator]  # of transformers
        text_BTD = embed(text_BT)
        prompt_PD = torch.cat([prompt.prompt_PD for prompt in _prompts_of(model)])
        return {"inputs_embeds": torch.cat([prompt_PD.to(text_BTD.dtype).expand(len(text_BT), -1, -1), text_BTD], 1)}

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
        mine_BPD = self.prompt_PD.expand(len(given["input_ids"]), -1, -1)
        before = [given[PROMPT_ARGUMENT]] if given.get(PROMPT_ARGUMENT) is not None else []
        return (), {**given, PROMPT_ARGUMENT: torch.cat([mine_BPD, *before], 1)}


def _prompts_of(model: nn.Module) -> list[SoftPrompt]:
    """Soft prompts of a model that are on: the newest first, as each new one stands before all there is."""
    return [part for part in reversed(parts_of(model)) if isinstance(part, SoftPrompt) and not part.is_off]


PART = SoftPrompt
