"""A model that knows some rows even better: an adapter learns them, for the time of a block or in a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from palimpsest.data.draws import shuffled
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import in_eval_mode
from palimpsest.models.parts import attach, detach
from palimpsest.models.scope import Scope, apply_scope, leave_scope, trainable

MOST_NORM = 1.0


@contextmanager
def reinforced(
    model: Any, examples: ExampleSet, *, rank: int, passes: int, rate: float, rows: int, seed: int
) -> Iterator[tuple[nn.Module, Callable[[], AbstractContextManager[None]]]]:
    """The model with an adapter that learned some rows, in eval mode, and a way to be without it for a block.

    Afterwards the weights are what they were, to the bit, those that may move may move again, and torch's generator
    gives next what it would have given.

    Args:
        model: plain, on its device.
        examples: what the adapter learns.
        rank: of the adapter.
        passes: over the examples.
        rate: learning rate of AdamW.
        rows: of a step.
        seed: of the adapter's first numbers and of the order of the rows.
    """
    devices = range(torch.accelerator.device_count()) if torch.cuda.is_available() else ()
    free = [*trainable(model).values()]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        wrapped = apply_scope(model, Scope(kind="lora", rank=rank, lora_alpha=2.0 * rank))
        try:
            with in_eval_mode(wrapped):
                _learn(wrapped, examples, passes=passes, rate=rate, rows=rows, seed=seed)
                yield wrapped, wrapped.disable_adapter
        finally:
            parts = detach(wrapped)
            attach(wrapped.unload(), parts)
            for parameter in free:
                parameter.requires_grad_(True)


def taught_copy(
    model: Any, examples: ExampleSet, *, rank: int, passes: int, rate: float, rows: int, seed: int, enough: float = 0.0
) -> tuple[nn.Module, int]:
    """A second model, frozen and in eval mode, whose adapter learned some rows, and after how many passes it knew them.

    The model and what torch's generator gives next are as they were. An adapter that the model bears is folded in.

    Args:
        model: on its device.
        examples: what the copy learns.
        rank: of its adapter.
        passes: over the examples, at most.
        rate: learning rate of AdamW.
        rows: of a step.
        seed: of the adapter's first numbers and of the order of the rows.
        enough: mean −log p of a label token over a pass, nats, at which it stops.
    """
    devices = range(torch.accelerator.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        plain = leave_scope(copy.deepcopy(model), Scope(kind="lora" if hasattr(model, "merge_and_unload") else "all"))
        taught = apply_scope(plain, Scope(kind="lora", rank=rank, lora_alpha=2.0 * rank)).eval()
        taken = _learn(taught, examples, passes=passes, rate=rate, rows=rows, seed=seed, enough=enough)
    return taught.requires_grad_(False), taken


def _learn(
    model: nn.Module, examples: ExampleSet, *, passes: int, rate: float, rows: int, seed: int, enough: float = 0.0
) -> int:
    """Descend on −log p of the label tokens, their mean over each step's; the passes that were taken."""
    moved = [*trainable(model).values()]
    optimizer = torch.optim.AdamW(moved, lr=rate, weight_decay=0.0)
    for turn in range(passes):
        ids, total, count = shuffled(examples.ids, seed, "reinforced", turn), 0.0, 0
        for batch in in_passes(model, examples, rows, ids):
            with torch.enable_grad():
                logp_S = batch.bare.predict(model).logp_S
                (-logp_S.mean()).backward()
            nn.utils.clip_grad_norm_(moved, MOST_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total, count = total - float(logp_S.detach().sum()), count + len(logp_S)
        if total <= enough * count:
            return turn + 1
    return passes
