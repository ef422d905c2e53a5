"""A pool of prompts that are tokens before those of an example, the ones with the nearest keys (L2P).

    x <- [P_k1 ; ... ; P_kN ; x]    before the first block,    k = the N prompts of the highest cos( q, K_k )

Behind the last block the tokens are taken out again, and where the class is read stands the mean of what they say, so
that the head reads the prompts (``reads`` = "tokens" leaves there what the example's own token says). The mask of a
text is longer by them: they are no padding. They have no position; where positions are rotations they are not turned.

Choices are made row by row. ``by_batch`` has the rows of a batch vote and gives all of them the same prompts, as
published code does: then what is said of a row depends on the rows beside it, and on how a step is cut.

Shape legend: B rows, T tokens, M prompts, P tokens of a prompt, D width, N = prompts chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.models.attention_prefix import longer_mask
from palimpsest.models.parts.beside_cache import given_to
from palimpsest.models.parts.part import PartConfig
from palimpsest.models.parts.prompting import STD, PromptConfig, PromptPart, in_the_graph, one_hot_weights
from palimpsest.models.places import module_at
from palimpsest.models.prompt_weights import key_cosines, majority_prompts, nearest_prompts

_HIDDEN = ("hidden_states", "hidden_state", "x")
"""What blocks call what they are given."""


class PromptPoolConfig(PromptConfig):
    """Options of a pool."""

    layers: tuple[PartConfig, ...] = Field(min_length=1)
    """The blocks, all that see the tokens; they are put in before the first."""
    leave: str = Field(min_length=1)
    """Module behind which they are taken out."""
    prompts: int = Field(default=10, ge=1)
    """M, in the pool."""
    length: int = Field(default=5, ge=1)
    """P, tokens of a prompt."""
    chosen: int = Field(default=5, ge=1)
    """N, prompts of an example."""
    reads: Literal["prompts", "tokens"] = "prompts"
    """What the head reads."""
    by_batch: bool = False
    """Do the rows of a batch vote?"""

    @model_validator(mode="after")
    def _as_many_as_there_are(self) -> PromptPoolConfig:
        if self.chosen > self.prompts:
            raise ValueError(f"{self.chosen} prompts are chosen of a pool of {self.prompts}; accepted: at most all")
        return self


class PromptPool(PromptPart):
    """Prompts and their keys."""

    Config = PromptPoolConfig
    kind = "prompt_pool"

    def __init__(self, config: PromptPoolConfig) -> None:
        super().__init__(config, config.prompts)
        self.prompt_MPD = nn.Parameter(torch.randn(config.prompts, config.length, config.query_width) * STD)
        self.key_MD = nn.Parameter(torch.randn(config.prompts, config.query_width) * STD)
        self._tokens: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to a pass."""
        return {**super().__getstate__(), "_tokens": None}

    @classmethod
    def example(cls, at: str, width: int) -> PromptPoolConfig:
        """All prompts of a pool of two, before the block that a layer is in."""
        block = at.rpartition(".self_attn")[0] or at
        sizes = {"query_width": width, "prompts": 2, "length": 2, "chosen": 2}
        return PromptPoolConfig(layers=(PartConfig(at=block),), leave=block, reads="tokens", **sizes)

    @property
    def places(self) -> tuple[str, ...]:
        """The blocks, and where the tokens leave."""
        return tuple(dict.fromkeys([*(layer.at for layer in self.config.layers), self.config.leave]))

    def attach(self, model: nn.Module) -> None:
        """Put tokens in before the first block, and take them out where they leave."""
        who = f"part {self.kind!r}"
        blocks = [module_at(model, layer.at, who) for layer in self.config.layers]
        leave, like = module_at(model, self.config.leave, who), next(model.parameters())
        self.to(device=like.device, dtype=like.dtype)
        self.ask_before(model)
        for number, block in enumerate(blocks):
            enters = self._enter if number == 0 else self._pass_on
            self.holds(block.register_forward_pre_hook(enters, with_kwargs=True))
        self.holds(leave.register_forward_hook(self._after, prepend=True))  # the last that came in leaves first

    @classmethod
    def share(cls, parts: Sequence[Any], query_BD: Float[Tensor, "B D"]) -> None:
        """Choose prompts for each row."""
        for part in parts:
            part._choose(query_BD)

    def _choose(self, query_BD: Float[Tensor, "B D"]) -> None:
        config = self.config
        score_BM = key_cosines(query_BD, self.key_MD)
        chosen_BN = nearest_prompts(score_BM, config.chosen)
        if config.by_batch:
            chosen_BN = majority_prompts(chosen_BN, config.prompts)
        self.weight_BM = one_hot_weights(chosen_BN, config.prompts)
        self.pull_B = (score_BM * self.weight_BM).sum(1)
        tokens_BTD = self.prompt_MPD[chosen_BN].flatten(1, 2)
        self._tokens = in_the_graph(tokens_BTD if self.alpha == 1 else self.alpha * tokens_BTD, score_BM)

    def _enter(self, block: nn.Module, arguments: Any, options: Any) -> Any:
        """Before the first block."""
        return self._longer(block, arguments, options, enters=True)

    def _pass_on(self, block: nn.Module, arguments: Any, options: Any) -> Any:
        """Before the others: the tokens are there, the mask is still that of the example."""
        return self._longer(block, arguments, options, enters=False)

    def _longer(self, block: nn.Module, arguments: Any, options: Any, *, enters: bool) -> Any:
        if self.is_off or self._tokens is None:
            return None
        given = given_to(block, arguments, options)
        name = next((one for one in _HIDDEN if one in given), None)
        if name is None:
            raise ModelError(
                f"part {self.kind!r}: a {type(block).__name__} is not given hidden_states; accepted: a block"
            )
        hidden_BTD, more = given.pop(name), self._tokens.shape[1]
        mask = given.get("attention_mask")
        if enters:
            hidden_BTD = torch.cat([self._tokens.to(hidden_BTD.dtype), hidden_BTD], 1)
        given |= {} if mask is None else {"attention_mask": mask_with_tokens(mask, more)}
        if isinstance(given.get("position_embeddings"), tuple):
            given["position_embeddings"] = unturned_before(given["position_embeddings"], more)
        return (hidden_BTD,), given

    def acting(self, said: Tensor) -> Tensor:
        """Without the tokens; where the class is read the mean of what they say."""
        if self._tokens is None:
            return said
        more = self._tokens.shape[1]
        own_BTD = said[:, more:]
        if self.config.reads == "tokens":
            return own_BTD
        read_BD = said[:, :more].mean(1)
        return torch.cat([read_BD[:, None], own_BTD[:, 1:]], 1)


def mask_with_tokens(mask: Tensor, more: int) -> Tensor:
    """The mask of an example with tokens before it that all see, and that see what its first token sees.

    >>> mask_with_tokens(torch.tensor([[[[True, False], [True, False]]]]), 1).int().tolist()
    [[[[1, 1, 0], [1, 1, 0], [1, 1, 0]]]]

    Raises:
        ModelError: the mask has another form.
    """
    if mask.dim() != 4:
        raise ModelError(
            "prompts need a mask (rows, heads, queries, keys) where there is one; accepted: attention sdpa or eager"
        )
    rows = torch.cat([mask[:, :, :1].expand(-1, -1, more, -1), mask], 2) if mask.shape[2] > 1 else mask
    return longer_mask(rows, more)


def unturned_before(turned: tuple[Tensor, Tensor], more: int) -> tuple[Tensor, Tensor]:
    """The rotations of an example with tokens before it that are not turned.

    >>> [half.flatten().tolist() for half in unturned_before((torch.zeros(1, 1, 1), torch.ones(1, 1, 1)), 1)]
    [[1.0, 0.0], [0.0, 1.0]]
    """
    cos, sin = turned
    first = cos[:, :1].expand(-1, more, -1)
    return torch.cat([torch.ones_like(first), cos], 1), torch.cat([torch.zeros_like(first), sin], 1)


PART = PromptPool
