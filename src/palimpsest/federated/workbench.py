"""A model in memory on which the clients of one process do their local work in turn.

It is loaded once, its scope is applied once, and what is exchanged is laid into it at the beginning of every piece of
work: no round writes or reads a model folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from palimpsest.companions.round_record import Weights
from palimpsest.engine.inputs import encode_sets
from palimpsest.engine.plan import Plan
from palimpsest.errors import ModelError
from palimpsest.models.in_passes import in_passes
from palimpsest.models.load import Loaded, device, load, use_threads
from palimpsest.models.modes import in_eval_mode
from palimpsest.models.scope import apply_scope, trainable
from palimpsest.records import Example, TokenIds

_COUNT, _VARIANCE = "num_batches_tracked", "running_var"  # names in batch normalisation
_ROWS = 32  # of a batch that only goes forward

ClientRows = Mapping[str, Sequence[Example]]
"""Client -> its rows."""


class Workbench(NamedTuple):
    """One model for all clients of a process.

    Attributes:
        plan: of the local work: method, scope, training; a learn run as any other.
        loaded: the model that the federation starts from, with its tokenizer; ``model`` has the scope applied.
        model: that is worked on.
        sets: client -> {"learn": its encoded rows}.
        folder: for what local work writes meanwhile.
        rows: client -> its rows as they were read, for who works in another process.
    """

    plan: Plan
    loaded: Loaded
    model: Any
    sets: Mapping[str, Mapping[str, Any]]
    folder: Path
    rows: ClientRows

    @classmethod
    def opened(cls, plan: Plan, rows: ClientRows, folder: Path, threads: int | None = None) -> Workbench:
        """Load the model of a plan, encode the rows, and apply the scope; the same weights in every process.

        Args:
            plan: of the local work.
            rows: of the clients that work here.
            folder: for what local work writes meanwhile.
            threads: CPU threads; None = one for a small model.

        Raises:
            UsageError: the model cannot be loaded, or rows are nothing for it.
        """
        return cls.on(plan, load_for(plan, rows, threads), rows, folder)

    @classmethod
    def on(cls, plan: Plan, loaded: Loaded, rows: ClientRows, folder: Path) -> Workbench:
        """The same on a model that is loaded already, which is wrapped or frozen by its scope."""
        sets = {name: encode_sets({"learn": list(own)}, loaded, plan.encoding) for name, own in rows.items()}
        set_seed(plan.training.seed)  # adapters are drawn
        return cls(plan, loaded, apply_scope(loaded.model, plan.scope), sets, folder, rows)

    def weights(self) -> dict[str, Tensor]:
        """What is exchanged, as it is now: name -> fp32 copy on the CPU."""
        return {name: tensor.detach().float().cpu().clone() for name, tensor in exchanged(self.model).items()}

    @torch.no_grad()
    def lay(self, weights: Weights) -> None:
        """Lay what was sent into the model; a variance that arithmetic made negative loses its sign.

        Raises:
            ModelError: it is of another model.
        """
        own = exchanged(self.model)
        if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in weights.items()}:
            strange = sorted(own.keys() ^ weights.keys()) or sorted(own)
            raise ModelError(f"what was sent is of another model or scope (e.g. {strange[0]}); give all the same one")
        for name, tensor in own.items():
            tensor.copy_(weights[name].abs() if name.endswith(_VARIANCE) else weights[name])

    def delta_from(self, weights: Weights) -> dict[str, Tensor]:
        """What moved since these weights were laid into the model."""
        return {name: now - weights[name] for name, now in self.weights().items()}

    def loss(self, client: str) -> float:
        """Mean loss of a client's rows, nats a scored position; the mode of the model stays."""
        total, count = 0.0, 0
        with in_eval_mode(self.model), torch.inference_mode():
            for batch in in_passes(self.model, self.sets[client]["learn"].plain(), _ROWS):
                logp_S = batch.predict(self.model).logp_S
                total -= math.fsum(logp_S.double().tolist())
                count += logp_S.numel()
        return total / max(1, count)


def load_for(plan: Plan, rows: ClientRows, threads: int | None) -> Loaded:
    """The model of a plan, on its device."""
    asks_words = any(not isinstance(row.content, TokenIds) for own in rows.values() for row in own)
    loaded = load(plan.model, revision=plan.revision, tokenizer_needed=asks_words)
    loaded.model.to(device())
    use_threads(loaded.model, threads)
    return loaded


def exchanged(model: Any) -> dict[str, Tensor]:
    """What clients exchange: the tensors that may move, and the statistics of batch normalisation that move with them.

    Source: McMahan et al. 2017 average all of a model's state; of the batch normalisation layers that learn, so do we.
    Their counts of batches are no weights: they would outweigh all else in a length, and stay as they are.
    """
    found: dict[str, Tensor] = {name: p.data for name, p in trainable(model).items()}
    for place, module in model.named_modules():
        if isinstance(module, _BatchNorm) and any(p.requires_grad for p in module.parameters(recurse=False)):
            prefix = f"{place}." if place else ""
            buffers = dict(module.named_buffers(recurse=False))
            found |= {f"{prefix}{name}": tensor for name, tensor in buffers.items() if name != _COUNT}
    return found


@contextmanager
def counts_kept(model: nn.Module) -> Iterator[None]:
    """Within this, steps may be taken; the counts of batches in batch normalisation are afterwards what they were."""
    counts = {name: tensor for name, tensor in model.named_buffers() if name.endswith(_COUNT)}
    before = {name: tensor.clone() for name, tensor in counts.items()}
    try:
        yield
    finally:
        for name, tensor in counts.items():
            tensor.copy_(before[name])


def count_as_seen(model: nn.Module) -> None:
    """Have layers of batch normalisation whose statistics were averaged say that they have seen a batch."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.num_batches_tracked is not None:
            module.num_batches_tracked.clamp_(min=1)
