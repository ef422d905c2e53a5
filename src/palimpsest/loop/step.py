"""One optimizer step: terms of the micro-batches -> gradients -> clipped update.

Terms carry sums. Each is divided by the count of its unit over the whole step, known before the first forward pass,
so the gradient is the same however the step is cut into micro-batches or spread over processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Method, Per, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.data.encode.batch_norm import statistics_kept
from palimpsest.errors import DivergedError
from palimpsest.models.passes import held_by, passes_through
from palimpsest.rules.asked import AskGradients, LossSaid, Which, every
from palimpsest.rules.own_step import OptimizerStep
from palimpsest.rules.rule import StepIds
from palimpsest.rules.rule_stack import RuleStack

Units = Mapping[tuple[str, Per], int]
NO_RULES = RuleStack()


@dataclass(frozen=True)
class StepResult:
    """What one step did.

    Attributes:
        terms: mean of each term over its unit, before weighting.
        loss: the weighted sum.
        grad_norm: L2 norm of the gradient before clipping.
        tokens: positions that went forward, through the model and every network that the method or its reference holds.
    """

    terms: dict[str, float]
    loss: float
    grad_norm: float
    tokens: int


def take_step(
    accelerator: Accelerator,
    method: Method,
    model: Any,
    optimizer: Any,
    batches: Sequence[Mapping[str, Batch]],
    *,
    phase: Phase,
    max_grad_norm: float,
    rules: RuleStack = NO_RULES,
) -> StepResult:
    """Accumulate the gradients of all micro-batches, transform, clip, update.

    Args:
        accelerator: places batches and scales gradients.
        method: gives the terms and may change the gradients.
        model: in train mode.
        optimizer: its learning rate is set.
        batches: micro-batches of this process, each a mapping set name -> batch.
        phase: which phase this is.
        max_grad_norm: clip to this L2 norm; 0 = off.
        rules: around the step; gradients that are only shown are none of theirs.

    Raises:
        DivergedError: the loss or the gradient is not finite; the weights are those of the step before.
    """

    def terms_of(micro: Mapping[str, Batch]) -> Terms:
        placed = {name: batch.to(accelerator.device) for name, batch in micro.items()}
        with accelerator.autocast(), statistics_kept(model, everywhere=not phase.moves_statistics):
            return method.loss(model, placed, phase)

    optimizer.zero_grad(set_to_none=True)
    with passes_through(model, *held_by(method, method.reference)) as passes:
        ask: AskGradients = _Asking(accelerator, model, batches, terms_of, keeps_buffers=not phase.update)
        found = (rules.asking(model, phase, ask) if phase.update else ask)()
    loss = found.loss
    method.transform(model, phase)
    if phase.update:
        rules.transform(model, phase)
    limit = max_grad_norm if phase.max_grad_norm is None else phase.max_grad_norm
    grad_norm = float(accelerator.clip_grad_norm_(model.parameters(), limit or math.inf))
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise DivergedError(f"phase {phase.name!r}: loss {loss}, gradient norm {grad_norm}; {DivergedError.remedy}")
    if phase.update:
        with rules.around(model, phase, ids_of(batches)):
            method.update(model, phase, rules.stepping(phase, OptimizerStep(optimizer, {**found.terms})))
    optimizer.zero_grad(set_to_none=True)  # nobody needs them while the model is measured between steps
    return StepResult({**found.terms}, loss, grad_norm, passes.tokens)


@dataclass(frozen=True)
class _Asking:
    """Gradients of the micro-batches of one step (``rules/asked.py``)."""

    accelerator: Accelerator
    model: nn.Module
    batches: Sequence[Mapping[str, Batch]]
    terms_of: Callable[[Mapping[str, Batch]], Terms]
    keeps_buffers: bool

    def __call__(self, which: Which = every, *, aside: bool = False, backward: bool = True) -> LossSaid:
        """Value and gradients of the terms over such sets."""
        with torch.random.fork_rng() if aside else nullcontext(), nullcontext() if backward else torch.no_grad():
            return self._accumulated(which, keeps_buffers=self.keeps_buffers or aside, backward=backward)

    def _accumulated(self, which: Which, *, keeps_buffers: bool, backward: bool) -> LossSaid:
        """Accumulate the gradients of all micro-batches; the loss, and the mean of each term."""
        units = units_of(self.batches)
        loss, totals = 0.0, dict[str, float]()
        own: dict[str, Tensor] = {}
        for number, micro in enumerate(self.batches):
            with _buffers_kept(self.model) if keeps_buffers else nullcontext():
                terms = self.terms_of(micro)
            if number == 0:
                own = own_counts(terms, self.model, self.terms_of, self.batches[1:])
            counts = {name: units[term.of, term.per] for name, term in terms.items()} | own
            counted = {name: term for name, term in terms.items() if which(term.of)}
            loss += self._backward(counted, counts, backward=backward)
            for name, term in counted.items():
                totals[name] = totals.get(name, 0.0) + float(term.total.detach() / counts[name])
        return LossSaid(loss, totals)

    def _backward(self, terms: Terms, counts: Mapping[str, Tensor | int], *, backward: bool) -> float:
        """Value and gradients of one micro-batch."""
        if not terms:
            return 0.0
        scaled = weighted_loss(terms, counts)
        if backward:
            self.accelerator.backward(scaled)
        return scaled.item()


def weighted_loss(terms: Terms, counts: Mapping[str, Tensor | int]) -> Tensor:
    """Σ_k weight_k · total_k / count_k, the part of these micro-batch terms in the loss of the whole step."""
    parts = [term.weight * term.total / counts[name] for name, term in terms.items()]
    return torch.stack([part.float() for part in parts]).sum()


def own_counts(
    first: Terms,
    model: nn.Module,
    terms_of: Callable[[Mapping[str, Batch]], Terms],
    others: Sequence[Mapping[str, Batch]],
) -> dict[str, Tensor]:
    """Counts of the whole step that only forward passes know: those at hand, and a look ahead at the other parts."""
    found = {name: term.count.detach() for name, term in first.items() if term.count is not None}
    if not found:
        return {}
    for micro in others:
        with torch.no_grad(), torch.random.fork_rng(), _buffers_kept(model):
            ahead = {name: term.count for name, term in terms_of(micro).items() if term.count is not None}
        found = {name: total + ahead[name] for name, total in found.items()}
    return found


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Undo what a forward pass does to running statistics."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.data.copy_(kept[name])  # unseen by autograd: a backward pass may come that read the same values


def ids_of(batches: Sequence[Mapping[str, Batch]]) -> StepIds:
    """Set -> ids of its examples in the micro-batches of one step, in their order."""
    names = dict.fromkeys(name for micro in batches for name in micro)
    return {name: tuple(i for micro in batches if name in micro for i in micro[name].ids) for name in names}


def units_of(batches: Sequence[Mapping[str, Batch]]) -> Units:
    """Scored tokens and examples of each set in the micro-batches of one step."""
    counts: dict[tuple[str, Per], int] = {}
    for micro in batches:
        for name, batch in micro.items():
            counts[name, "token"] = counts.get((name, "token"), 0) + batch.num_scored
            counts[name, "example"] = counts.get((name, "example"), 0) + len(batch)
    return counts


def micro_batches(
    sets: Mapping[str, ExampleSet], drawn: Mapping[str, Sequence[str]], anchor: str, size: int | None
) -> list[dict[str, Batch]]:
    """Cut the drawn ids of one step into micro-batches; every set is cut into the same number of parts.

    Args:
        sets: where the examples are.
        drawn: set name -> ids of this step.
        anchor: the set whose examples per micro-batch are bounded by ``size``.
        size: examples of the anchor per micro-batch; None = all at once.
    """
    anchor_ids = drawn.get(anchor) or next(iter(drawn.values()))
    parts = math.ceil(len(anchor_ids) / size) if size else 1
    parts = min(parts, *(len(ids) for ids in drawn.values())) if len(drawn) > 1 else parts
    # Built set by set, so that random augmentation draws the same numbers however a step is cut.
    built = {name: [sets[name].batch(_part(ids, k, parts)) for k in range(parts)] for name, ids in drawn.items()}
    return [{name: batches[k] for name, batches in built.items()} for k in range(parts)]


def _part(ids: Sequence[str], k: int, parts: int) -> Sequence[str]:
    """The k-th of ``parts`` contiguous parts whose sizes differ by at most one."""
    return ids[k * len(ids) // parts : (k + 1) * len(ids) // parts]
