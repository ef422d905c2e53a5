"""Elastic weight consolidation (EWC): learn while a spring holds each weight that the memory depends on.

Source: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", arXiv:1612.00796, Eq. 3.

    L   = − mean log p(learn tokens) + (lambda / 2) · Σ_j F_j (θ_j − θ*_j)²
    F_j = Σ_i Σ_t Σ_y p(y) (∂ log p(y) / ∂θ_j)² / Σ_i T_i at θ*,   p at scored position t of T_i of example i

θ* are the weights the request starts from, i runs over the memory, the retain set. F is the Fisher of one scored
position, so that (1/2) Σ F (θ − θ*)² is about the mean KL(θ* ‖ θ) on the memory. It is taken in eval mode, one example
at a time. The spring enters as its exact gradient, beside that of the loss and before clipping; its energy is logged.

The sum over y takes a backward pass for each position and output, so it is taken where an example has at most 32 of
them, as an image of up to 32 classes has. Else it is estimated without bias by the mean over ``draws`` of
(∂ Σ_t log p(y_t) / ∂θ_j)², y_t drawn from p: terms of different positions are independent and of mean 0 (Kunstner et
al. 2019, arXiv:1905.12558, tell this from the empirical Fisher). Of many positions the inner sum is about normal, so
one draw has variance 2 F_ij², a relative error of sqrt(2 / (examples · draws)) where the examples are alike: 4 % at 256
and 4. A position known with probability p adds p (1 − p) from outputs that are drawn with probability 1 − p: there the
relative error of N draws is about 1 / sqrt(N (1 − p)), which made one drawn label useless for a memorised classifier.
With ``labels="data"`` y are the memory's own labels: the empirical Fisher, usual in code. Where the memory is known by
heart it is next to nothing: a label of probability p has (1 − p)² in it where the Fisher has p (1 − p). Under LoRA the
adapter's first factor has F = 0, because its second starts at 0: only the second is held.

Departs from the paper: one spring for all that is in the memory, so that what was unlearned since leaves none behind;
the paper has one for each earlier task. The memory is not rehearsed; without one (a first task) this is fine-tuning.
Official code: none; CLPU's and mammoth's ewc_on.py multiply the empirical square by exp(−nll) and omit the factor 1/2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.draws import shuffled
from palimpsest.data.encode.batch import Batch, Predictions
from palimpsest.models.scope import trainable

MOST_SUMMED = 32  # pairs of position and output of an example
Likelihoods = Sequence[tuple[float, Tensor]]
"""Log-likelihoods of one example, scalars with a graph, each with the weight of its squared gradient."""


class EWCConfig(Config):
    """Options of EWC."""

    strength: float = Field(default=100.0, ge=0)
    """lambda; 0 is fine-tuning, CLPU's study has 100 to 1000. Being diagonal, F misses most of the curvature: 1 is far
    too weak. Plain gradient descent diverges where the logged ``stiffness`` is above 2."""
    fisher_examples: int = Field(default=256, ge=1)
    """At most so many examples of the memory, drawn at random, make the Fisher: one backward pass each."""
    labels: Literal["model", "data"] = "model"
    """Whose labels the Fisher is taken at: the model's own answers, as it is defined, or the memory's."""
    draws: int = Field(default=4, ge=1)
    """Labels drawn at each position where there are too many to sum over: one backward pass each."""


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


def spring(
    fisher: Float[Tensor, "..."], moved: Float[Tensor, "..."], strength: float
) -> tuple[Float[Tensor, "..."], Float[Tensor, ""]]:
    """Gradient lambda · F ⊙ (θ − θ*) and energy of the penalty of one parameter.

    >>> spring(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 3.0]), strength=2.0)
    (tensor([6., 0.]), tensor(9.))
    """
    pull = strength * fisher * moved
    return pull, (pull * moved).sum() / 2  # Eq. 3, second term


class EWC(Method):
    """Maximum likelihood on the learn set; the retain set only says which weights must stay."""

    Config = EWCConfig
    use_when = (
        "you learn new rows and may look at earlier ones, not train on them. "
        "Not where you may train on them: then rehearse them (er). Its strength has to be tried out."
    )
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain",)

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Keep the weights and take the Fisher on the memory: two more copies of what may move."""
        super().prepare(model, sets)
        parameters = trainable(model) if "retain" in sets else {}
        self.start = {name: p.detach().clone() for name, p in parameters.items()}
        self.fisher = dict(zip(parameters, self._fisher(model, sets, [*parameters.values()]), strict=True))
        return model

    def _fisher(
        self, model: nn.Module, sets: Mapping[str, ExampleSet], parameters: Sequence[Tensor]
    ) -> list[Float[Tensor, "..."]]:
        if not parameters:
            return []
        was_training = model.training
        model.eval()
        # On the CPU and of one seed: a resume finds the same Fisher.
        generator = torch.Generator().manual_seed(0)
        at = partial(self._likelihoods, generator=generator)
        fisher = diagonal_fisher(self._said(model, sets["retain"]), parameters, at)
        model.train(was_training)
        return fisher

    def _said(self, model: nn.Module, memory: ExampleSet) -> Iterator[Predictions]:
        """Predictions for one example after another."""
        device = next(model.parameters()).device
        for example_id in shuffled(memory.ids, 0, "fisher", 0)[: self.config.fisher_examples]:
            yield memory.plain().batch([example_id]).to(device).predict(model)

    def _likelihoods(self, said: Predictions, generator: torch.Generator) -> Likelihoods:
        if self.config.labels == "data":
            return at_data(said)
        few = said.logits_SV.numel() <= MOST_SUMMED
        return at_all(said) if few else at_drawn(said, self.config.draws, generator)

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """The learn set alone."""
        return (Phase("learn", ("learn",)),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token mean of the negative log-likelihood."""
        return {"learn": Term(-batches["learn"].predict(model).logp_S.sum(), of="learn")}

    @torch.no_grad()
    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Add the spring's gradient."""
        parameters = trainable(model)
        energies = []
        for name, fisher in self.fisher.items():
            parameter = parameters[name]
            pull, energy = spring(fisher, (parameter - self.start[name]).float(), self.config.strength)
            own = pull.to(parameter.dtype)
            parameter.grad = own if parameter.grad is None else parameter.grad.add_(own)
            energies.append(energy)
        self.penalty = float(sum(energies))

    def diagnostics(self, learning_rate: float) -> dict[str, float]:
        """Energy of the springs before the step in nats, and learning rate · lambda · max F."""
        stiffest = max((float(fisher.max()) for fisher in self.fisher.values()), default=0.0)
        return {"penalty": self.penalty, "stiffness": learning_rate * self.config.strength * stiffest}


METHOD = EWC
