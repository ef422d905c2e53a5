"""Block prompts: learned tokens among those of a sequence, before the first block or before every one.

Source: Jia et al. 2022, "Visual Prompt Tuning", arXiv:2203.12119, as APER uses it; known from notes on the paper.

    shallow    [x_0, P, x_1 …] enters the first block, and the prompts go through all of them
    deep       before every further block they are replaced by P of its own
    behind the last block the prompts are taken out again

x_0 is the first token, at which most encoders read the class. Prompts are seen by all tokens that may see x_0, and take
its place in what depends on positions. Unlike an adapter's, prompts are never without effect: they begin as noise.

Shape legend: B rows, T tokens, P prompts, L blocks with prompts of their own, D width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.models.parts.task_views import TaskPart, TaskPartConfig
from palimpsest.models.places import module_at


class BlockPromptsConfig(TaskPartConfig):
    """Options of block prompts."""

    blocks: tuple[str, ...] = Field(min_length=1)
    """The blocks of the model, first to last."""
    width: int = Field(ge=1)
    """D, width of a token."""
    tokens: int = Field(default=5, ge=1)
    """P, prompts."""
    deep: bool = False
    """Prompts of its own for every block."""


def with_prompts(x_BTD: Float[Tensor, "B T D"], prompts_PD: Float[Tensor, "P D"]) -> Float[Tensor, "B S D"]:
    """The prompts behind the first token.

    >>> with_prompts(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[7.0]])).flatten().tolist()
    [1.0, 7.0, 2.0]
    """
    own_BPD = prompts_PD.to(x_BTD.dtype).expand(len(x_BTD), -1, -1)
    return torch.cat([x_BTD[:, :1], own_BPD, x_BTD[:, 1:]], dim=1)


def without_prompts(x_BSD: Float[Tensor, "B S D"], prompts: int) -> Float[Tensor, "B T D"]:
    """The tokens without so many prompts behind the first one."""
    return torch.cat([x_BSD[:, :1], x_BSD[:, 1 + prompts :]], dim=1)


def first_again(values: Tensor, axis: int, times: int) -> Tensor:
    """The first entry of an axis so many times more, behind itself; an axis of length 1 serves all and stays.

    >>> first_again(torch.tensor([1, 2]), 0, 2).tolist()
    [1, 1, 1, 2]
    """
    if values.shape[axis] == 1:
        return values
    first = values.narrow(axis, 0, 1)
    return torch.cat([first] * (1 + times) + [values.narrow(axis, 1, values.shape[axis] - 1)], dim=axis)


class BlockPrompts(TaskPart):
    """The prompts of one task."""

    Config = BlockPromptsConfig
    kind = "block_prompts"

    def __init__(self, config: BlockPromptsConfig) -> None:
        super().__init__(config)
        sets = len(config.blocks) if config.deep else 1
        self.prompts = nn.Parameter(torch.randn(sets, config.tokens, config.width) * config.width**-0.5)

    @classmethod
    def example(cls, at: str, width: int) -> BlockPromptsConfig:
        """Two prompts before the block that a layer of an attention is in."""
        return BlockPromptsConfig(blocks=(at.partition(".self_attn")[0],), width=width, tokens=2)

    @property
    def places(self) -> tuple[str, ...]:
        """The blocks."""
        blocks: tuple[str, ...] = self.config.blocks
        return blocks

    def attach(self, model: nn.Module) -> None:
        """Put the prompts in before the first block, and take them out behind the last.

        Raises:
            ModelError: a block is not there.
        """
        blocks = [module_at(model, place, "part 'block_prompts'") for place in self.places]
        like = next(blocks[0].parameters(), next(model.parameters()))
        self.to(device=like.device, dtype=like.dtype)
        for number, block in enumerate(blocks):
            self.holds(block.register_forward_pre_hook(partial(self._enter, number), with_kwargs=True))
        self.holds(blocks[-1].register_forward_hook(self._leave))

    def _enter(self, number: int, _block: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """What enters a block: the prompts among the tokens, and room for them in masks and positions."""
        if self.is_off:
            return None
        inside = {name: self._roomy(name, value) for name, value in kwargs.items()}
        x_BTD, *others = args or (inside.pop("hidden_states"),)
        return (self._prompted(number, x_BTD), *(self._roomy("", value) for value in others)), inside

    def _prompted(self, number: int, x: Tensor) -> Tensor:
        own = self.prompts[number if self.config.deep else 0]
        own = own if self.alpha == 1 else self.alpha * own
        if number == 0:
            return with_prompts(x, own)
        return with_prompts(without_prompts(x, self.config.tokens), own) if self.config.deep else x

    def _roomy(self, name: str, value: Any) -> Any:
        """Masks (B, 1, T or 1, T) and positions (B or 1, T, ...) with room for the prompts; all else as it is."""
        tokens = self.config.tokens
        if name == "position_embeddings" and isinstance(value, tuple):
            return tuple(first_again(one, 1, tokens) for one in value)
        if name == "position_ids" and isinstance(value, Tensor):
            return first_again(value, -1, tokens)
        if isinstance(value, Tensor) and value.ndim == 4:
            return first_again(first_again(value, 2, tokens), 3, tokens)
        return value

    def _leave(self, _block: nn.Module, _inputs: Any, output: Any) -> Any:
        if self.is_off:
            return None
        if isinstance(output, tuple):
            return (without_prompts(output[0], self.config.tokens), *output[1:])
        return without_prompts(output, self.config.tokens)


PART = BlockPrompts
