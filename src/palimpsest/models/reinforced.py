"""A model that knows some rows even better, for the time of a block: an adapter learns them and is taken off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from palimpsest.data.draws import shuffled
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.models.modes import in_eval_mode
from palimpsest.models.parts import attach, detach
from palimpsest.models.scope import Scope, apply_scope, trainable

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


def _learn(model: nn.Module, examples: ExampleSet, *, passes: int, rate: float, rows: int, seed: int) -> None:
    """Descend on −log p of the label tokens: their mean over each step's."""
    moved, device = [*trainable(model).values()], next(model.parameters()).device
    optimizer = torch.optim.AdamW(moved, lr=rate, weight_decay=0.0)
    for turn in range(passes):
        ids = shuffled(examples.ids, seed, "reinforced", turn)
        for start in range(0, len(ids), rows):
            batch = examples.batch(ids[start : start + rows]).to(device)
            with torch.enable_grad():
                loss = -batch.predict(model).logp_S.mean()
                loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(moved, MOST_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
