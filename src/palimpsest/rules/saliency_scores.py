"""Balanced weight saliency: which weights matter more to what must change than to what must stay.

    F^S_j  = mean over mini-batches b of S of (d/dtheta_j mean_{i in b} NLL_i)^2      diagonal empirical Fisher
    F~^S   = F^S / mean_j F^S_j                                                       scale-free, so that gamma = 1 is
    score  = sum_S p_S / (sum_S' p_S') F~^S  -  gamma mean_R F~^R        S in learn, forget; R in retain, replay
    m      = 1[score >= 0]

What stays may come in several sets (a memory of facts, general text): each counts alike. Pooled, the memorised one
would not count at all, because its gradients are tiny beside those of text that cannot be known by heart.

One signed fp32 tensor per parameter holds the score, so no ratio, no epsilon and half the memory; a weight without any
gradient scores 0 and is kept, whatever gamma. The normalised score needs each mean before it adds the set:
all sets are gone through twice, the first to be added once.

Source: ratio mask and estimator, Huang et al., arXiv:2409.19732 (SFR-on); balancing, the UG-CLU framework,
arXiv:2505.15178, whose exact form for three sets is not public: the composition here is derived from its update.
Departs from the ancestor: normalised by default (``normalise=False`` is its mask). As there, the square is of the
gradient of a mini-batch *mean*, E[g_B^2] = mu^2 + var / B, so all sets need the same batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn

from palimpsest.errors import DataError, DivergedError, PlanError, unknown
from palimpsest.models.hooked import hooked
from palimpsest.models.modes import in_eval_mode
from palimpsest.models.scope import trainable
from palimpsest.rules.saliency_bits import SaliencyMask

Losses = Sequence[Callable[[], Tensor]]
"""A set as its mini-batches: each call runs one forward pass and returns that batch's mean NLL, scalar, nats."""
Granularity = Literal["weight", "row", "tensor"]
Composition = Literal["sum", "separate"]
WeightScores = dict[str, Tensor]


@dataclass(frozen=True)
class Saliency:
    """Masks and what they cost.

    Attributes:
        masks: set name -> mask of its gradient; one and the same object for all sets when composed by "sum".
        means: set name -> mean over the weights of its Fisher, nats^2; 0 = no gradient at all.
        passes: set name -> how often the set was gone through.
        batches: forward-backward passes in all.
    """

    masks: Mapping[str, SaliencyMask]
    means: Mapping[str, float]
    passes: Mapping[str, int]
    batches: int


def mean_square(model: nn.Module, losses: Losses) -> float:
    """Mean over the trainable weights of the empirical Fisher of a set, nats^2; one pass, only scalars are kept.

    Raises:
        DataError: the set has no mini-batch.
        DivergedError: a gradient is not finite.
    """
    return _fisher_pass(model, losses)


def balanced_masks(
    model: nn.Module,
    sets: Mapping[str, Losses],
    retain: Mapping[str, Losses],
    *,
    shares: Mapping[str, float] | None = None,
    gamma: float = 1.0,
    normalise: bool = True,
    composition: Composition = "sum",
    granularity: Granularity = "weight",
) -> Saliency:
    """Masks by the signed score of this file; the model is in eval mode meanwhile, its gradients are cleared.

    Args:
        model: its trainable parameters are masked.
        sets: what changes, e.g. {"forget": ..., "learn": ...}; at least one.
        retain: what must stay, e.g. {"retain": ..., "replay": ...}; at least one, other names than in ``sets``.
        shares: p_S > 0 of each set, e.g. its number of examples; None = equal.
        gamma: threshold of the ratio, >= 0; larger keeps fewer weights.
        normalise: divide each Fisher by its own mean; False needs one pass over each set instead of two.
        composition: "sum" makes one mask; "separate" one per set, each against the same remaining Fisher, and holds
            a second fp32 tensor per parameter.
        granularity: "weight"; "row" decides by the mean score over all dimensions but the first; "tensor" by the mean
            score of each parameter.

    Raises:
        PlanError: no set, or an unknown composition or granularity.
        DataError: a set has no mini-batch.
        DivergedError: a gradient is not finite.
    """
    _check(sets, retain, composition, granularity)
    common, means = _remaining(model, retain, gamma, normalise)
    separate = composition == "separate"
    weights = _weights(sets, shares, separate)
    masks: dict[str, SaliencyMask] = {}
    for name, losses in sets.items():
        score = {key: tensor.clone() for key, tensor in common.items()} if separate else common
        scale = _inverse(mean_square(model, losses)) if normalise else 1.0
        means[name] = _fisher_pass(model, losses, score, factor=weights[name] * scale)
        if separate:
            masks[name] = _mask(score, granularity)
    if not separate:
        masks = dict.fromkeys(sets, _mask(common, granularity))
    passes = dict.fromkeys((*retain, *sets), 2 if normalise else 1) | {next(iter(retain)): 1}
    batches = sum(passes[name] * len(losses) for name, losses in {**sets, **retain}.items())
    return Saliency(masks, means, passes, batches)


def _remaining(
    model: nn.Module, retain: Mapping[str, Losses], gamma: float, normalise: bool
) -> tuple[WeightScores, dict[str, float]]:
    """-gamma F~^R, averaged over the sets that stay (over their mini-batches when not normalised), and their means."""
    score, means = _zeros(model), {}
    batches = sum(len(losses) for losses in retain.values())
    for number, (name, losses) in enumerate(retain.items()):
        share = 1 / len(retain) if normalise else len(losses) / max(1, batches)
        if number == 0:  # its scale is found on the way
            means[name] = _fisher_pass(model, losses, score, factor=1.0)
            for tensor in score.values():
                tensor.mul_(-gamma * share * (_inverse(means[name]) if normalise else 1.0))
        else:
            scale = _inverse(mean_square(model, losses)) if normalise else 1.0
            means[name] = _fisher_pass(model, losses, score, factor=-gamma * share * scale)
    return score, means


def gradient_sum(model: nn.Module, losses: Losses) -> WeightScores:
    """Sum over the mini-batches of the gradient, fp32, by parameter name: the score of SalUn's mask.

    Raises:
        DataError: the set has no mini-batch.
        DivergedError: a gradient is not finite.
    """
    total = _zeros(model)
    _each_gradient(model, losses, lambda name, grad: total[name].add_(grad))
    if not all(bool(tensor.isfinite().all()) for tensor in total.values()):
        raise DivergedError(NOT_FINITE)
    return total


NOT_FINITE = "a gradient of the saliency pass is not finite, so there is no mask; check the model and its precision"


def _check(sets: Mapping[str, Losses], retain: Mapping[str, Losses], composition: str, granularity: str) -> None:
    if not sets:
        raise PlanError("a saliency mask was asked for and no set is to change; accepted: forget, learn or both")
    if not retain:
        raise PlanError("a saliency mask was asked for and no set is to stay; accepted: retain, replay or both")
    if composition not in ("sum", "separate"):
        raise PlanError(unknown("mask composition", composition, ("sum", "separate")))
    if granularity not in ("weight", "row", "tensor"):
        raise PlanError(unknown("mask granularity", granularity, ("weight", "row", "tensor")))


def _weights(sets: Mapping[str, Losses], shares: Mapping[str, float] | None, separate: bool) -> dict[str, float]:
    """p_S / sum of p; 1 for each set that has a mask of its own."""
    if separate or shares is None:
        return dict.fromkeys(sets, 1.0 if separate else 1.0 / len(sets))
    total = sum(shares[name] for name in sets)
    return {name: shares[name] / total for name in sets}


def _inverse(mean: float) -> float:
    """1 / mean; 0 where the Fisher vanishes or 1 / mean would overflow fp32: then F / mean is taken as 0."""
    return 1.0 / mean if mean >= torch.finfo(torch.float32).tiny else 0.0


def _zeros(model: nn.Module) -> WeightScores:
    return {name: torch.zeros_like(p, dtype=torch.float32) for name, p in trainable(model).items()}


def _fisher_pass(model: nn.Module, losses: Losses, score: WeightScores | None = None, *, factor: float = 0.0) -> float:
    """One pass over a set: score += factor * F on the way; returns the mean of F."""
    norms: list[Tensor] = []

    def use(name: str, grad: Tensor) -> None:
        norms.append(torch.linalg.vector_norm(grad))
        if score is not None:
            score[name].addcmul_(grad, grad, value=factor / len(losses))

    _each_gradient(model, losses, use)
    total = float(torch.stack(norms).cpu().double().square().sum())
    mean = total / len(losses) / sum(parameter.numel() for parameter in trainable(model).values())
    if not isfinite(mean):
        raise DivergedError(NOT_FINITE)
    return mean


def _each_gradient(model: nn.Module, losses: Losses, use: Callable[[str, Tensor], object]) -> None:
    """Show each parameter's gradient of each mini-batch in fp32, as it arrives, and free it: never all at once."""
    if not losses:
        raise DataError("a set of the saliency pass has no mini-batch; accepted: at least one")
    model.zero_grad(set_to_none=True)

    def hook_of(name: str) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            if parameter.grad is not None:
                use(name, parameter.grad.float())
            parameter.grad = None

        return hook

    hooks = [
        p.register_post_accumulate_grad_hook(hook_of(name))  # type: ignore[no-untyped-call]
        for name, p in trainable(model).items()
    ]
    with hooked(hooks), in_eval_mode(model):
        for loss in losses:
            loss().backward()  # type: ignore[no-untyped-call]


def _mask(score: WeightScores, granularity: Granularity) -> SaliencyMask:
    """Keep where score >= 0; each score is freed once its bits are packed."""
    return SaliencyMask.of((name, _kept(score.pop(name), granularity)) for name in tuple(score))


def _kept(score: Tensor, granularity: Granularity) -> Tensor:
    if granularity == "tensor":
        return (score.mean() >= 0).expand_as(score)
    if granularity == "row" and score.ndim > 1:
        rest = tuple(range(1, score.ndim))
        return (score.mean(rest, keepdim=True) >= 0).expand_as(score)
    return score >= 0
