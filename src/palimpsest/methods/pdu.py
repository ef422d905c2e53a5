"""Primal-dual unlearning (PDU): flatten the logits on forget as far as the loss on retain stays below a bound.

Source: Entesari et al. 2025, "Constrained Entropic Unlearning: A Primal-Dual Framework for Large Language Models",
arXiv:2506.05314; the loss and the step of the multiplier as open-unlearning computes them.

    L = mean (max_v z_v − mean_v z_v)² at the forget tokens + λ · (R − epsilon),   R = − mean log p(retain tokens)
    λ ← max(0, λ + eta · (R − epsilon))   after each step, R that of the step

z are logits. The first part is 0 where all tokens are alike; it asks nothing of the label, so that it also unlearns
what the model would say instead. The multiplier grows while retain costs more than epsilon and falls to 0 while it
costs less. It belongs to the weights it was found with: it is in the checkpoint, and goes back where a run takes steps
back.

Departs from the paper: epsilon, which has to be given there, is by default the loss of retain before the run and a
``slack``. The wait before the multiplier moves is in steps, and 0 by default (five epochs there): a controlled run has
no epochs to count. The multiplier moves by the mean over the whole step, after the weights did.
Official code: github.com/locuslab/open-unlearning (MIT) moves it once in each micro-batch, by the loss of that alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Step, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.data.encode.lean_logits import by_rows
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.terms import likelihood

_ROWS_AT_ONCE = 16


class PDUConfig(Config):
    """Options of primal-dual unlearning."""

    epsilon: float | None = Field(default=None, ge=0)
    """Nats per retain token that may be lost up to; None = what they cost before the run, and the slack."""
    slack: float = Field(default=0.1, ge=0)
    """Nats per token above the loss before; only where epsilon is None."""
    eta: float = Field(default=1.0, ge=0)
    """Step size of the multiplier; 1 in open-unlearning, 0 keeps it where it is."""
    multiplier: float = Field(default=1.0, ge=0)
    """λ at the start; 1 in open-unlearning."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps before λ moves for the first time."""
    gamma: float = Field(default=1.0, ge=0)
    """Factor of the flattening; 1 in open-unlearning."""
    measured_rows: int = Field(default=64, ge=1)
    """At most so many rows of retain, the first ones, are looked at for the loss before."""


def squared_margin(logits_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """(max − mean)² of the logits at each position, in fp32; 0 where all are alike.

    >>> import torch
    >>> squared_margin(torch.tensor([[3.0, 0.0, 0.0]])).tolist()
    [4.0]
    """
    return by_rows(_margin, logits_SV, logits_SV.detach()[:, :1])


def _margin(logits_RV: Tensor, _: Tensor) -> Tensor:
    logits_RV = logits_RV.float()
    return (logits_RV.amax(-1) - logits_RV.mean(-1)).square()


def moved_multiplier(multiplier: float, excess: float, eta: float) -> float:
    """λ after a step whose retain loss was so much above its bound.

    >>> moved_multiplier(1.0, 0.5, 2.0), moved_multiplier(1.0, -0.75, 2.0)
    (2.0, 0.0)
    """
    return max(0.0, multiplier + eta * excess)


class PDU(Method):
    """Flatten the logits on forget; weigh retain by a multiplier that learns."""

    Config = PDUConfig
    use_when = (
        "what stays has a bound in nats rather than a factor to tune. "
        "Not where the answers should look unlearned: flat logits are easily told from a model that never knew."
    )
    approach = "distillation"
    needs = ("forget", "retain")
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """The bound, at the weights the run starts from; the multiplier at its beginning."""
        config: PDUConfig = self.config
        self.epsilon = _loss_of(model, sets["retain"], config) if config.epsilon is None else config.epsilon
        self.multiplier, self.steps = config.multiplier, 0
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the margin and of the retain loss; the bound itself has no gradient."""
        flat = squared_margin(batches["forget"].predict(model).logits_SV).sum()
        terms = {"forget": Term(flat, of="forget", weight=self.config.gamma)}
        return terms | likelihood(model, batches, {"retain": self.multiplier})

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """One optimizer step, and the multiplier's by the retain loss of the step."""
        step()
        self.steps += 1
        if self.steps > self.config.warmup_steps:
            self.multiplier = moved_multiplier(self.multiplier, step.terms["retain"] - self.epsilon, self.config.eta)

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """The multiplier, and the bound it works for."""
        return {"multiplier": self.multiplier, "epsilon": self.epsilon}

    def state(self) -> Mapping[str, Tensor]:
        """The multiplier and the steps that moved it."""
        return {"pdu": torch.tensor([self.multiplier, float(self.steps)], dtype=torch.float64)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self.multiplier, self.steps = float(state["pdu"][0]), int(state["pdu"][1])


def _loss_of(model: nn.Module, retain: ExampleSet, config: PDUConfig) -> float:
    """Nats per token that retain costs now, and the slack."""
    lost, count = 0.0, 0
    with asked(model):
        for batch in in_passes(model, retain.plain(), _ROWS_AT_ONCE, retain.ids[: config.measured_rows]):
            lost -= batch.predict(model).logp_S.sum().item()
            count += batch.num_scored
    return lost / count + config.slack


METHOD = PDU
