"""The one teacher-forced pass that all metrics share.

Shape legend: B examples, T tokens, V vocabulary.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from palimpsest.data.encode.batch import Predictions, TextBatch
from palimpsest.errors import DivergedError
from palimpsest.metrics.greedy.choice import Tally, choose, literal_choice
from palimpsest.metrics.greedy.fused import FusedKernels


@dataclass(frozen=True)
class TeacherPass:
    """What the pass says about each token, given the tokens before it; at position 0 nothing.

    Attributes:
        argmax_BT: the most likely token.
        logp_BT: log-probability of the token that is there, nats.
        cache: keys and values of all positions, where they were asked for.
        said: the logits at the scored positions, where they were asked for.
    """

    argmax_BT: Int[Tensor, "B T"]
    logp_BT: Float[Tensor, "B T"]
    cache: DynamicCache | None
    said: Predictions | None


class Extent(NamedTuple):
    """What a pass keeps and how it computes.

    Attributes:
        cached: keep the keys and values of all positions?
        whole: keep the logits at the scored positions?
        fused: may fused kernels compute what transformers does step by step?
    """

    cached: bool
    whole: bool
    fused: bool


def read_teacher(
    model: nn.Module, batch: TextBatch, relevant_BT: Bool[Tensor, "B T"], tally: Tally, extent: Extent
) -> TeacherPass:
    """One forward pass over a batch.

    Args:
        model: in eval mode.
        batch: on the model's device.
        relevant_BT: positions whose arg-max matters; only there near ties are decided.
        tally: counts positions and near ties.
        extent: what to keep of the pass.

    Raises:
        DivergedError: logits that are not finite numbers.
    """
    # Without a config the cache keeps every position, also for layers with a sliding window; masks know the window.
    cache = DynamicCache() if extent.cached else None
    kept = {"use_cache": False} if cache is None else {"past_key_values": cache, "use_cache": True}
    with FusedKernels(model) if extent.fused else nullcontext():
        output: Any = model(**batch.inputs(), **kept)
    said = batch.predictions(output.logits) if extent.whole else None  # a copy: the choice below overwrites the logits
    tally.positions += batch.input_ids_BT.numel()
    argmax_BT = torch.full_like(batch.input_ids_BT, -1)
    logp_BT = torch.zeros(batch.input_ids_BT.shape, dtype=torch.float32, device=batch.input_ids_BT.device)
    for row, example_id in enumerate(batch.ids):  # row by row: copies of all logits at once would triple the memory
        logits_TV, target_T = output.logits[row, :-1], batch.input_ids_BT[row, 1:]
        logits_full_TV = logits_TV.float()
        target_logit_T = logits_full_TV.gather(1, target_T[:, None])[:, 0]
        logp_BT[row, 1:] = target_logit_T - logits_full_TV.logsumexp(-1)
        choice = choose(logits_TV)
        relevant_T = relevant_BT[row, 1:]
        if not bool((choice.finite_R | ~relevant_T).all()):
            raise DivergedError(
                f"the model's logits on example {example_id!r} are not finite numbers; nothing to measure"
            )
        argmax_BT[row, 1:] = choice.token_R
        tally.near_ties += int((choice.near_R & relevant_T).sum())
        for position in (choice.decide_R & relevant_T).nonzero()[:, 0].tolist():
            prefix_T = batch.input_ids_BT[row, : position + 1]
            argmax_BT[row, position + 1] = literal_choice(model, prefix_T, tally)
    return TeacherPass(argmax_BT, logp_BT, cache, said)
