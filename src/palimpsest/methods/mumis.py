"""MU-Mis: what a sample left behind shows in how strongly its class's logit answers to it; that is taken back.

Source: Cheng et al. 2024, "Remaining-data-free Machine Unlearning by Suppressing Sample Contribution",
arXiv:2402.15109, its abstract; the loss from notes.

    gap_i = ‖ ∂ z_y / ∂ x_i ‖² − ‖ ∂ z_y' / ∂ x_i ‖²,   y the class of x_i, y' another, drawn anew at each step
    L     = mean over forget of gap_i
    at a fixed rate it stops where the mean gap over the last pass lies ``stop`` times the mean ‖ ∂ z_y / ∂ x ‖² of the
    first pass below the mean gap of the first pass

z are logits, x what enters (pixels, or embeddings of tokens). Training on a sample makes its class's logit more
sensitive to it than others'; a model that never saw it has a small gap. The loss is unbounded below, so that it needs
an end: its own at a fixed rate, that of the level in a controlled run. No retain set is looked at.

Departs from the paper: its stopping rule is known to us by name only; the one above is ours: with 1 the gap has fallen
by all of the answer that the class had. Of a text the logits of all label tokens are summed before they are
differentiated. A step costs three passes or so, for the gradient is taken of a gradient.
Official code: named in the paper, not seen by us.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from palimpsest.contract import Config, ExampleSet, Method, Phase, Step, Term, Terms
from palimpsest.data.encode.batch import Batch, Predictions
from palimpsest.models.entries import predict_with_entry
from palimpsest.models.wrong_labels import wrong_labels

_UNPLANNED = 10**6  # iterations that a controlled run says it plans: it knows its own end


class MUMisConfig(Config):
    """Options of MU-Mis."""

    stop: float = Field(default=1.0, gt=0)
    """At a fixed rate: it stops where the gap has fallen by so many times the sensitivity that the class began with."""


def sensitivity(said: Predictions, label_S: Int[Tensor, "S"], entry: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
    """‖∂ Σ_s z_label / ∂x‖² of each example, with a graph.

    Args:
        said: by a pass whose inputs were ``entry``.
        label_S: of each scored position.
        entry: a leaf.
    """
    picked = said.logits_SV.gather(1, label_S[:, None]).sum()
    (gradient,) = torch.autograd.grad(picked, [entry], create_graph=True)
    return gradient.float().flatten(1).square().sum(1)


class Seen(NamedTuple):
    """What a step saw.

    Attributes:
        gap: summed over examples.
        own: ‖∂z_y/∂x‖², summed.
        examples: how many.
    """

    gap: float = 0.0
    own: float = 0.0
    examples: int = 0


def all_seen(steps: Iterable[Seen]) -> Seen:
    """What several steps saw.

    >>> all_seen([Seen(1.0, 2.0, 3), Seen(1.0, 1.0, 1)])
    Seen(gap=2.0, own=3.0, examples=4)
    """
    gaps, owns, counts = zip(Seen(), *steps, strict=True)
    return Seen(sum(gaps), sum(owns), sum(counts))


def fallen_enough(first: Seen, last: Seen, share: float) -> bool:
    """Has the mean gap fallen by so many times the mean sensitivity of the first pass?

    >>> first = Seen(6.0, 8.0, 2)
    >>> fallen_enough(first, Seen(-1.0, 4.0, 2), 1.0), fallen_enough(first, Seen(-2.0, 4.0, 2), 1.0)
    (False, True)
    """
    return first.gap / first.examples - last.gap / last.examples >= share * first.own / first.examples


class MUMis(Method):
    """Descend on the gap between the sensitivities of the own class and of another."""

    Config = MUMisConfig
    use_when = "there is no retain set, for images. Not where time counts: a step costs about three."
    approach = "ascent"
    needs = ("forget",)
    modalities = ("labels", "image")
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Nothing was seen yet."""
        self._pass: deque[Seen] = deque()
        self._step, self._first = Seen(), Seen()
        self._size, self._done, self._bounded = len(sets["forget"]), False, False
        return super().prepare(model, sets)

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """One step over forget."""
        self._bounded, self._step = planned < _UNPLANNED, Seen()
        return (Phase("suppress", ("forget",)),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The mean gap of forget examples."""
        batch = batches["forget"]
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
            bare, entry = predict_with_entry(model, batch.bare)
            said = batch.seen(bare)
            other_S = wrong_labels(said.target_S, said.logits_SV.shape[1])
            own_B, others_B = sensitivity(said, said.target_S, entry), sensitivity(said, other_S, entry)
        gap = (own_B - others_B).sum()
        self._step = all_seen([self._step, Seen(float(gap.detach()), float(own_B.detach().sum()), len(batch))])
        return {"gap": Term(gap, of="forget", per="example")}

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """One step of the optimizer, unless its own rule has ended it."""
        self._note()
        if not (self._done and self._bounded):
            step()

    def _note(self) -> None:
        """Take what this step saw into the last pass, and ask whether it was the last that was needed."""
        self._pass.append(self._step)
        while all_seen(self._pass).examples - self._pass[0].examples >= self._size:
            self._pass.popleft()
        whole = all_seen(self._pass)
        if whole.examples >= self._size:
            self._first = self._first if self._first.examples else whole
            self._done = self._done or fallen_enough(self._first, whole, self.config.stop)

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """Of this step the mean gap, and whether its own rule has ended it."""
        return {"gap": self._step.gap / max(1, self._step.examples), "ended": float(self._done)}

    def state(self) -> Mapping[str, Tensor]:
        """The steps of the last pass, the first pass, the end."""
        rows = torch.tensor([*self._pass, self._first], dtype=torch.float64)
        return {"passes": rows, "done": torch.tensor(self._done)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        *steps, self._first = (Seen(gap, own, int(n)) for gap, own, n in state["passes"].tolist())
        self._pass, self._done = deque(steps), bool(state["done"])


METHOD = MUMis
