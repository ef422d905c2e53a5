"""Where greedy continuations leave their text.

Shape legend: B examples of a batch, T tokens, C chains of the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Texts:
    """A batch of texts with the arg-maxes of a teacher-forced pass over it.

    Attributes:
        tokens_BT: right-padded tokens.
        lengths_B: true lengths.
        argmax_BT: at t >= 1 the most likely token after the first t; at 0 no meaning.
        first_B: length of the shortest prefix that is continued; the text's length where none is.
        n: length of the shortest n-gram that will be looked for.
    """

    tokens_BT: Int[Tensor, "B T"]
    lengths_B: Int[Tensor, "B"]
    argmax_BT: Int[Tensor, "B T"]
    first_B: Int[Tensor, "B"]
    n: int


@dataclass(frozen=True)
class Chains:
    """Runs of prefixes that share a continuation, ordered by end, then by row.

    Attributes:
        row_C: example of each chain.
        end_C: length of its longest prefix; there the continuation leaves the text or ends.
        first_C: length of its shortest prefix.
    """

    row_C: Int[Tensor, "C"]
    end_C: Int[Tensor, "C"]
    first_C: Int[Tensor, "C"]

    def __len__(self) -> int:
        return self.row_C.shape[0]

    def slice(self, start: int, stop: int) -> Chains:
        """Chains start .. stop - 1."""
        return Chains(self.row_C[start:stop], self.end_C[start:stop], self.first_C[start:stop])


def find_chains(texts: Texts, eos_ids: Int[Tensor, "E"]) -> Chains:
    """Chains of a batch of texts.

    A chain ends where the arg-max is wrong, and also where it is right but ends the generation: the continuation is
    then filled up instead of following the text. Chains whose prefixes are all too short-lived to hold an n-gram are
    left out.
    """
    tokens_BT, argmax_BT = texts.tokens_BT, texts.argmax_BT
    position_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    inside_BT = (position_T >= texts.first_B[:, None]) & (position_T < texts.lengths_B[:, None])
    leaves_BT = inside_BT & ((argmax_BT != tokens_BT) | torch.isin(tokens_BT, eos_ids))
    row_C, end_C = leaves_BT.nonzero(as_tuple=True)
    previous_C = end_C.roll(1) + 1
    starts_C = row_C != row_C.roll(1)
    starts_C[:1] = True
    first_C = torch.where(starts_C, texts.first_B[row_C], previous_C)
    used_C = first_C <= texts.lengths_B[row_C] - texts.n
    row_C, end_C, first_C = row_C[used_C], end_C[used_C], first_C[used_C]
    order_C = end_C.argsort(stable=True)
    return Chains(row_C[order_C], end_C[order_C], first_C[order_C])


def can_still_match(texts: Texts, chains: Chains, tokens_CT: Int[Tensor, "C T"], position: int) -> Tensor:
    """Can tokens after ``position`` still change a count? (C,) bool, exact in the sense that False is never wrong.

    The n-gram that starts last, at length - n, begins with the token generated there. Once what is known of it occurs
    nowhere in the text from the chain's first prefix on, neither it nor any longer part of an earlier n-gram can match.

    Args:
        texts: the batch.
        chains: the chains asked about.
        tokens_CT: their tokens, known up to ``position`` included.
        position: of the last token known.
    """
    length_C = texts.lengths_B[chains.row_C]
    start_C = length_C - texts.n
    open_C = start_C > position
    if bool(open_C.all()):
        return open_C
    text_CT = texts.tokens_BT[chains.row_C]
    position_T = torch.arange(text_CT.shape[1], device=text_CT.device)
    occurs_CT = position_T >= chains.first_C[:, None]
    for offset in range(texts.n):
        known_C = start_C + offset <= position
        if not bool(known_C.any()):
            break
        token_C = tokens_CT.gather(1, (start_C + offset).clamp(0, text_CT.shape[1] - 1)[:, None])
        fits_CT = (text_CT == token_C) & (position_T < length_C[:, None])
        shifted_CT = torch.zeros_like(fits_CT)
        shifted_CT[:, : fits_CT.shape[1] - offset] = fits_CT[:, offset:]
        occurs_CT = occurs_CT & (shifted_CT | ~known_C[:, None])
    return open_C | occurs_CT.any(1)
