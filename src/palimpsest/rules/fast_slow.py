"""Fast and slow weights: repetition stands in for the inverse Hessian of what must stay.

    theta_f     = theta_k - beta M g                         fast: g = learn - unlearn gradient, M the saliency mask
    theta_r     = T_in descent steps of size eta on L_R from theta_f                                      repair
    theta_{k+1} = theta_k + alpha_s (theta_r - theta_k)                                                   slow

Near the minimiser r of L_R with Hessian H, A = (I - eta H)^T_in, one iteration moves by -alpha_s beta A M g, a low-pass
filter in the curvature; repeated with constant g it settles at r - beta (A^-1 - I)^-1 M g, about
-beta / (eta T_in) H^-1 M g, whatever alpha_s. When g depends on the weights, it settles where
L_R + kappa (L_learn - L_unlearn) is stationary. Two numbers say what regime a run is in: ``kappa`` and ``rho``.

Source: scheme of Huang et al., arXiv:2409.19732 (SFR-on), whose mechanism UG-CLU, arXiv:2505.15178, names as its own;
the formulas are our derivation, exact on quadratics.
Departs from the ancestor's code: floating-point buffers (BatchNorm statistics) go with the slow weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from palimpsest.contract import Step
from palimpsest.models.scope import trainable
from palimpsest.rules.saliency_bits import SaliencyMask, restore_masked

FastOptimizer = Literal["own", "shared", "sgd"]
Snapshot = dict[str, Tensor]


def snapshot(model: nn.Module) -> Snapshot:
    """Copies of what training moves: trainable parameters and the floating-point buffers that a state dict keeps."""
    return {name: tensor.clone() for name, tensor in moving(model).items()}


def slow_step(model: nn.Module, start: Mapping[str, Tensor], alpha_s: float) -> None:
    """Set theta to theta_k + alpha_s (theta - theta_k), in place; integer buffers, e.g. counters, are left.

    Args:
        model: at theta, after the fast step and the repair.
        start: ``snapshot`` at theta_k.
        alpha_s: in [0, 1]; 0 gives theta_k back and 1 leaves theta, both bit for bit.
    """
    for name, tensor in moving(model).items():
        tensor.lerp_(start[name].to(tensor.device), 1 - alpha_s)  # a resumed run reads it on the processor


class SlowWeights:
    """The cycles of a run: ``open`` at theta_k, once a cycle, ``close`` after its repair; nothing with alpha_s = 1."""

    def __init__(self, alpha_s: float) -> None:
        self.alpha_s = alpha_s
        self.start: Snapshot = {}
        """Of the open cycle, for a checkpoint; empty when none is open."""

    def open(self, model: nn.Module) -> None:
        """Keep theta_k, unless a cycle is open."""
        if self.alpha_s < 1 and not self.start:
            self.start = snapshot(model)

    def close(self, model: nn.Module) -> None:
        """Take the slow step, if a cycle is open."""
        if self.start:
            slow_step(model, self.start, self.alpha_s)
        self.start = {}


def moving(model: nn.Module) -> dict[str, Tensor]:
    """What training moves, the tensors themselves: see ``snapshot``."""
    kept = model.state_dict().keys()
    buffers = {name: b for name, b in model.named_buffers() if b.is_floating_point() and name in kept}
    return {name: parameter.detach() for name, parameter in trainable(model).items()} | buffers


def gradients(model: nn.Module) -> Snapshot:
    """Copies of the gradients at hand, by parameter name; parameters without one are left out."""
    return {name: p.grad.clone() for name, p in trainable(model).items() if p.grad is not None}


def kappa(*, beta: float, scale: float, eta: float, inner_steps: int) -> float:
    """Effective weight of the fast loss against the repair loss: beta s / (eta T_in), for plain gradient steps.

    Args:
        beta: step size of the fast step times the weight of the loss, > 0.
        scale: s, annealing of this step (``schedule.ascent_scale``).
        eta: step size of the repair, > 0.
        inner_steps: T_in, repair steps per fast step.
    """
    return beta * scale / (eta * inner_steps)


def rho(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], fast: Mapping[str, Tensor], *, eta: float, beta: float
) -> float | None:
    """How much of a fast step one repair step answers.

    rho = eta ||grad L_R(theta_f) - grad L_R(theta_k)|| / (beta ||M g||). On a quadratic it is
    ||eta H M g|| / ||M g||, the curvature along the fast step in units of 1 / eta. Below about 0.01 fast-slow weights
    equal a joint step.

    Args:
        before: gradient of the repair loss at theta_k, by parameter name, from one batch.
        after: the same at theta_f, from the same batch.
        fast: M g, the masked gradient of the fast step; for another optimizer than SGD the displacement, with beta = 1.
        eta: step size of the repair.
        beta: step size of the fast step.

    Returns:
        >= 0; None when the fast step did not move.
    """
    moved = beta * _norm(fast.values())
    change = _norm(after[name] - before[name] for name in before)
    return eta * change / moved if moved > 0 else None


def _norm(tensors: Iterable[Tensor]) -> float:
    """L2 norm over all tensors together."""
    norms = [torch.linalg.vector_norm(tensor.float()) for tensor in tensors]
    return float(torch.stack(norms).norm()) if norms else 0.0


@torch.no_grad()
def descend_(model: nn.Module, size: float) -> None:
    """Theta <- theta - size * gradient, in place: no momentum, no decay."""
    for parameter in trainable(model).values():
        if parameter.grad is not None:
            parameter.sub_(parameter.grad, alpha=size)


class FastSteps:
    """The fast steps of a run, and what is left of their momentum."""

    def __init__(self, how: FastOptimizer, rate: float) -> None:
        """How they are taken: "own" by ``step.own``, "shared" by ``step`` itself, "sgd" by descent of size ``rate``."""
        self.how, self.rate = how, rate
        self.memories: dict[str, Snapshot] = {}
        """Of "own": for each kind of fast step, parameter name -> its momentum."""

    def take(self, model: nn.Module, step: Step, kind: str, mask: SaliencyMask | None = None) -> None:
        """Move by the masked gradients at hand.

        Args:
            model: with its gradients, zero outside the mask.
            step: of the run's optimizer.
            kind: whose momentum they join.
            mask: weights outside it come out bit-identical; only a "shared" step, whose momentum moves weights that
                have no gradient, needs it.
        """
        if self.how == "sgd":
            descend_(model, self.rate)
        elif self.how == "own":
            step.own(model, self.memories.setdefault(kind, {}))
        else:
            with restore_masked(model, mask) if mask is not None else nullcontext():
                step()

    def glide(self, model: nn.Module, step: Step) -> None:
        """Go on along the momentum of earlier fast steps; the model has no gradients."""
        for memory in self.memories.values():
            step.own(model, memory)


def under_one_name(parts: Mapping[str, Mapping[str, Tensor]]) -> Snapshot:
    """Tensors of several parts under one name each, for a checkpoint: part/parameter."""
    return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def as_memory(tensors: Mapping[str, Tensor]) -> dict[str, Snapshot]:
    """Inverse of ``under_one_name``.

    >>> sorted(as_memory(under_one_name({"a": {"x.y": torch.ones(1)}, "b": {"x": torch.ones(1)}})))
    ['a', 'b']
    """
    parts: dict[str, Snapshot] = {}
    for key, tensor in tensors.items():
        part, name = key.split("/", 1)
        parts.setdefault(part, {})[name] = tensor
    return parts


def outer_step(
    model: nn.Module,
    fast: Callable[[], Tensor],
    repair: Callable[[], Tensor],
    *,
    beta: float,
    eta: float,
    inner_steps: int = 1,
    alpha_s: float = 1.0,
    mask: SaliencyMask | None = None,
) -> None:
    """One iteration of the scheme with plain gradient descent: the reference that methods and tests compare with.

    Args:
        model: moved in place.
        fast: the loss whose gradient is g, at the current weights: learn minus annealed unlearn.
        repair: L_R at the current weights.
        beta: size of the fast step.
        eta: size of a repair step.
        inner_steps: T_in.
        alpha_s: size of the slow step, in [0, 1].
        mask: M; None = all weights.
    """
    start = snapshot(model)
    _descend(model, fast, beta, mask)
    for _ in range(inner_steps):
        _descend(model, repair, eta, None)
    slow_step(model, start, alpha_s)


def _descend(model: nn.Module, loss: Callable[[], Tensor], size: float, mask: SaliencyMask | None) -> None:
    model.zero_grad(set_to_none=True)
    loss().backward()  # type: ignore[no-untyped-call]
    if mask is not None:
        mask.apply_(model)
    descend_(model, size)
