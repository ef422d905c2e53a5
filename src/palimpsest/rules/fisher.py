"""The Fisher information of a set, its diagonal: how much each weight matters to what the model says about the set.

    F_j = Σ_i Σ_t Σ_y p(y) (∂ log p(y) / ∂θ_j)² / Σ_i T_i      p at scored position t of T_i of example i

F is the Fisher of one scored position, so that (1/2) Σ F (θ − θ*)² is about the mean KL(θ* ‖ θ) on the set. It is taken
in eval mode, one example at a time.

The sum over y takes a backward pass for each position and output, so it is taken where an example has at most 32 of
them, as an image of up to 32 classes has. Else it is estimated without bias by the mean over ``draws`` of
(∂ Σ_t log p(y_t) / ∂θ_j)², y_t drawn from p: terms of different positions are independent and of mean 0 (Kunstner et
al. 2019, arXiv:1905.12558, tell this from the empirical Fisher). Of many positions the inner sum is about normal, so
one draw has variance 2 F_ij², a relative error of sqrt(2 / (examples · draws)) where the examples are alike: 4 % at 256
and 4. A position known with probability p adds p (1 − p) from outputs that are drawn with probability 1 − p: there the
relative error of N draws is about 1 / sqrt(N (1 − p)), which made one drawn label useless for a memorised classifier.
With the set's own labels it is the empirical Fisher, usual in code. Where the set is known by heart that is next to
nothing: a label of probability p has (1 − p)² in it where the Fisher has p (1 − p).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from palimpsest.contract import ExampleSet
from palimpsest.data.draws import shuffled
from palimpsest.data.encode.batch import Predictions
from palimpsest.models.scope import trainable

MOST_SUMMED = 32  # pairs of position and output of an example
Labels = Literal["model", "data"]
Likelihoods = Sequence[tuple[float, Tensor]]
"""Log-likelihoods of one example, scalars with a graph, each with the weight of its squared gradient."""


def drawn_labels(logits_SV: Float[Tensor, "S V"], generator: torch.Generator) -> Int[Tensor, "S"]:
    """A label at each position from the distribution of the model itself, drawn on the CPU."""
    prob_SV = logits_SV.detach().float().softmax(dim=-1).cpu()
    return torch.multinomial(prob_SV, 1, generator=generator)[:, 0].to(logits_SV.device)


def at_data(said: Predictions) -> Likelihoods:
    """The example's own labels."""
    return [(1.0, said.logp_S.sum())]


def at_drawn(said: Predictions, draws: int, generator: torch.Generator) -> Likelihoods:
    """Labels drawn from the model, so many times."""
    return [
        (1 / draws, replace(said, target_S=drawn_labels(said.logits_SV, generator)).logp_S.sum()) for _ in range(draws)
    ]


def at_all(said: Predictions) -> Likelihoods:
    """Every label of every position, each as probable as the model has it."""
    logp_SV = said.logits_SV.float().log_softmax(dim=-1)
    return list(zip(logp_SV.detach().exp().flatten().tolist(), logp_SV.flatten().unbind(), strict=True))


def diagonal_fisher(
    said: Iterable[Predictions], parameters: Sequence[Tensor], at: Callable[[Predictions], Likelihoods]
) -> list[Float[Tensor, "..."]]:
    """Σ weight · squared gradients of the log-likelihoods / Σ scored positions, fp32, shaped like the parameters.

    Args:
        said: of one example after another, made as they are asked for.
        parameters: with respect to which; 0 for one that takes no part.
        at: the log-likelihoods of an example, with their weights.
    """
    squares, positions = [torch.zeros_like(p, dtype=torch.float32) for p in parameters], 0
    for one in said:
        positions += len(one.target_S)
        for weight, logp in at(one):
            gradients = torch.autograd.grad(logp, parameters, allow_unused=True, retain_graph=True)
            for square, gradient in zip(squares, gradients, strict=True):
                if gradient is not None:
                    square.add_(gradient.float().square(), alpha=weight)
    return [square / positions for square in squares]


def fisher_of(
    model: nn.Module, examples: ExampleSet, *, limit: int, labels: Labels, draws: int
) -> dict[str, Float[Tensor, "..."]]:
    """The Fisher of a set by parameter name, over what may move; the same at every call, whatever was drawn before.

    Args:
        model: at the weights at hand; asked in eval mode.
        examples: not augmented for this.
        limit: at most so many of them, a random choice that depends on nothing but the ids.
        labels: the model's own answers, as the Fisher is defined, or the set's.
        draws: labels drawn at each position where there are too many to sum over.
    """
    parameters = trainable(model)
    was_training = model.training
    model.eval()
    # On the CPU and of one seed: a resume finds the same Fisher.
    generator = torch.Generator().manual_seed(0)
    at = partial(_likelihoods, labels=labels, draws=draws, generator=generator)
    fisher = diagonal_fisher(_said(model, examples, limit), [*parameters.values()], at)
    model.train(was_training)
    return dict(zip(parameters, fisher, strict=True))


def _said(model: nn.Module, examples: ExampleSet, limit: int) -> Iterator[Predictions]:
    """Predictions for one example after another."""
    device = next(model.parameters()).device
    for example_id in shuffled(examples.ids, 0, "fisher", 0)[:limit]:
        yield examples.plain().batch([example_id]).to(device).predict(model)


def _likelihoods(said: Predictions, labels: Labels, draws: int, generator: torch.Generator) -> Likelihoods:
    if labels == "data":
        return at_data(said)
    few = said.logits_SV.numel() <= MOST_SUMMED
    return at_all(said) if few else at_drawn(said, draws, generator)
