"""The arg-max and its near ties.

Shape legend: R rows, V vocabulary, T tokens.

Two computations of one logit differ by rounding, so where the two largest nearly tie they may name different tokens.
Such positions are counted, and in full precision decided by a forward pass over exactly the prefix, alone, which is
what ``generate`` computes. An exact tie needs no second look: the lowest id wins in any order of computation.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

_RELATIVE_GAP = 1e-5  # rounding differences seen between a padded batch and a single prefix are below 3e-6


@dataclass
class Tally:
    """What an evaluation has used so far.

    Attributes:
        positions: token positions that went through the model.
        near_ties: positions where the two most likely tokens nearly tied.
    """

    positions: int = 0
    near_ties: int = 0


class Choice(NamedTuple):
    """The most likely token of each row.

    Attributes:
        token_R: its id, the lowest where several tie exactly.
        near_R: does another token nearly tie with it?
        decide_R: should the literal computation decide between them?
        finite_R: are the logits numbers at all?
    """

    token_R: Int[Tensor, "R"]
    near_R: Bool[Tensor, "R"]
    decide_R: Bool[Tensor, "R"]
    finite_R: Bool[Tensor, "R"]


def choose(logits_RV: Float[Tensor, "R V"]) -> Choice:
    """Arg-max, compared in fp32 at least. Overwrites the logits."""
    full = logits_RV.dtype in (torch.float32, torch.float64)
    top_R, token_R = logits_RV.max(-1)
    second_R = logits_RV.scatter_(1, token_R[:, None], -torch.inf).amax(-1)
    gap_R = (top_R - second_R).float()
    relative = _RELATIVE_GAP if full else torch.finfo(logits_RV.dtype).eps
    near_R = gap_R <= relative * top_R.float().abs().clamp(min=1.0)
    decide_R = near_R & (gap_R > 0) if full else torch.zeros_like(near_R)
    return Choice(token_R, near_R, decide_R, top_R.isfinite())


def literal_choice(model: nn.Module, prefix_T: Int[Tensor, "T"], tally: Tally) -> Tensor:
    """The most likely token after a prefix, from a forward pass over that prefix alone."""
    tally.positions += prefix_T.shape[0]
    logits_1TV = forward_last(model, prefix_T[None])
    return logits_1TV[0, -1].argmax()


def forward_last(model: nn.Module, tokens_RT: Int[Tensor, "R T"]) -> Float[Tensor, "R K V"]:
    """Logits of a forward pass without cache; only the last position where the model can leave out the others."""
    keep: dict[str, int] = {}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        keep["logits_to_keep"] = 1
    output: Any = model(input_ids=tokens_RT, use_cache=False, **keep)
    return output.logits  # type: ignore[no-any-return]
