"""Greedy decoding of chains, batched over examples and chains.

Shape legend: B examples, C chains, T tokens, R rows being decoded, E end-of-sequence ids.

What comes out equals one ``generate`` call per prefix. While the arg-max is right, two prefixes share a continuation,
so only the last prefix of each chain is decoded; its first token and its keys and values are known from the
teacher-forced pass; and once no n-gram can match any more, the rest is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from palimpsest.errors import DivergedError
from palimpsest.metrics.greedy.chains import Chains, Texts, can_still_match
from palimpsest.metrics.greedy.choice import Tally, choose, literal_choice
from palimpsest.metrics.greedy.growing import CachedRows, GrowingRows, RecomputedRows, bytes_per_row, shareable


@dataclass(frozen=True)
class Rules:
    """How a generation ends, and what the decoding may use.

    Attributes:
        eos_ids: tokens that end a generation.
        pad_id: what fills it up afterwards.
        cache_bytes: memory for keys and values.
    """

    eos_ids: Int[Tensor, "E"]
    pad_id: int
    cache_bytes: int


def decode_chains(
    model: nn.Module, texts: Texts, chains: Chains, rules: Rules, *, cache: DynamicCache | None, tally: Tally
) -> Int[Tensor, "C T"]:
    """Tokens of every chain: its longest prefix, then the greedy continuation up to the length of its text.

    Args:
        model: in eval mode.
        texts: the batch the chains belong to.
        chains: ordered by end.
        rules: end of sequence, fill token, memory.
        cache: keys and values of the teacher-forced pass over the batch, where it kept any.
        tally: counts the positions and near ties.

    Returns:
        -1 where a token was not decoded because it cannot change any n-gram count.
    """
    shared = cache if cache is not None and shareable(cache, texts.tokens_BT) else None
    most = len(chains) if shared is None else rules.cache_bytes // bytes_per_row(shared)
    capacity = max(1, min(len(chains), most))
    tokens_CT = torch.full((len(chains), texts.tokens_BT.shape[1]), -1, device=texts.tokens_BT.device)
    for start in range(0, len(chains), capacity):
        chunk = chains.slice(start, start + capacity)
        rows = CachedRows(model, shared, len(chunk)) if shared is not None else RecomputedRows(model)
        tokens_CT[start : start + capacity] = _Decoding(model, texts, chunk, rules=rules, rows=rows, tally=tally).run()
    return tokens_CT


class _Decoding:
    """One chunk of chains on its way."""

    def __init__(
        self, model: nn.Module, texts: Texts, chains: Chains, *, rules: Rules, rows: GrowingRows, tally: Tally
    ) -> None:
        self.model, self.texts, self.chains = model, texts, chains
        self.rules, self.rows, self.tally = rules, rows, tally
        self.length_C = texts.lengths_B[chains.row_C]
        self.tests_from = int(self.length_C.min()) - texts.n  # before, no chain can have become hopeless
        self.tokens_CT = _prefixes(texts, chains)
        self.ended_C = torch.zeros_like(chains.row_C, dtype=torch.bool)
        self.active_R = chains.row_C.new_empty(0)  # chain of each row

    def run(self) -> Int[Tensor, "C T"]:
        """Decode position after position; a chain joins at its end and leaves when it is done."""
        joins = self.chains.end_C.tolist()
        longest = int(self.length_C.max())
        joined = 0
        for position in range(joins[0], longest):
            self._leave(position)
            first = joined
            while joined < len(joins) and joins[joined] == position:
                joined += 1
            if joined > first:
                self._join(torch.arange(first, joined, device=self.length_C.device), position)
            if len(self.active_R):
                self._extend(position)
        return self.tokens_CT

    def _leave(self, position: int) -> None:
        """Rows that are done make room; the last rows move into the gaps, so that little is copied."""
        alive_R = self._alive(self.active_R, position)
        if bool(alive_R.all()):
            return
        count = int(alive_R.sum())
        kept_R = torch.arange(count, device=alive_R.device)
        kept_R[~alive_R[:count]] = alive_R[count:].nonzero()[:, 0] + count
        self.rows.keep(kept_R, position)
        self.active_R = self.active_R[kept_R]

    def _join(self, new_N: Int[Tensor, "N"], position: int) -> None:
        self._fill_ended(new_N, position)
        new_N = new_N[self._alive(new_N, position)]
        if len(new_N):
            self.rows.join(self.chains.row_C[new_N], position)
            self.active_R = torch.cat([self.active_R, new_N])

    def _alive(self, chain_N: Int[Tensor, "N"], position: int) -> Bool[Tensor, "N"]:
        """Is another token of these chains needed, the one at ``position`` being known?"""
        needed_N = ~self.ended_C[chain_N] & (self.length_C[chain_N] > position + 1)
        if position < self.tests_from:
            return needed_N
        chains = Chains(self.chains.row_C[chain_N], self.chains.end_C[chain_N], self.chains.first_C[chain_N])
        return needed_N & can_still_match(self.texts, chains, self.tokens_CT[chain_N], position)

    def _extend(self, position: int) -> None:
        """Write the token after ``position`` of every row."""
        known_RT = self.tokens_CT[self.active_R, : position + 1]
        choice = choose(self.rows.step(known_RT))
        self.tally.positions += len(known_RT) * (1 if isinstance(self.rows, CachedRows) else position + 1)
        if not bool(choice.finite_R.all()):
            raise DivergedError("the model's logits are not finite numbers; nothing can be measured on it")
        self.tally.near_ties += int(choice.near_R.sum())
        for row in choice.decide_R.nonzero()[:, 0].tolist():
            choice.token_R[row] = literal_choice(self.model, known_RT[row], self.tally)
        self.tokens_CT[self.active_R, position + 1] = choice.token_R
        self._fill_ended(self.active_R, position + 1)

    def _fill_ended(self, chain_N: Int[Tensor, "N"], position: int) -> None:
        """Chains whose token at ``position`` ends the generation are filled up, as a batched ``generate`` does."""
        ended_N = chain_N[torch.isin(self.tokens_CT[chain_N, position], self.rules.eos_ids)]
        self.tokens_CT[ended_N, position + 1 :] = self.rules.pad_id
        self.ended_C[ended_N] = True


def _prefixes(texts: Texts, chains: Chains) -> Int[Tensor, "C T"]:
    """The longest prefix of each chain and the first token of its continuation, known from the teacher-forced pass."""
    position_T = torch.arange(texts.tokens_BT.shape[1], device=texts.tokens_BT.device)
    tokens_CT = torch.where(position_T < chains.end_C[:, None], texts.tokens_BT[chains.row_C], -1)
    first_C = texts.argmax_BT[chains.row_C, chains.end_C]
    return tokens_CT.scatter_(1, chains.end_C[:, None], first_C[:, None])
