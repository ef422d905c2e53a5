"""Disruption: a step that forgets moves only the weights where what must stay would be moved the same way.

Source: disruption masking of MUDMAN, Sondej et al. 2025, arXiv:2506.12484, known to us from its abstract and our notes.

    m = 1[ sign(g_f) = sign(g_r) ]     g_f gradient of the terms that forget, g_r of −log p on rows that must stay
    g = m ⊙ (g_f · c + g_o)            g_o of the other terms;  c = norm / ‖m ⊙ g_f‖, or 1
    θ ← m ⊙ update(θ) + (1 − m) ⊙ θ    with ``strict``; without it m ⊙ g_f · c + g_o, and the update as it is

So to first order no step raises the loss of the rows that were looked at. They are drawn anew for every step by (seed,
step); one more pass forward and back, and one more of the objective. Where the gradient of one is 0 nothing moves. A
step without terms that forget, as one of repair, is left as it is.

Departs from the paper: g_r comes from rows of its own and not from the objective, whose own term for what stays may be
missing, or have no gradient where the run starts (a divergence from the model before); its attacker, at whose weights
gradients are taken, is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.data.draws import places
from palimpsest.data.encode.batch_norm import statistics_kept
from palimpsest.method_card import Config
from palimpsest.models.scope import trainable
from palimpsest.rules.asked import (
    AskGradients,
    Gradients,
    LossSaid,
    Which,
    both,
    every,
    forgets,
    forgets_in,
    given,
    stays,
    taken,
)
from palimpsest.rules.ball import length
from palimpsest.rules.rule import Rule, StepIds
from palimpsest.rules.saliency_bits import SaliencyMask, restore_masked


class DisruptionConfig(Config):
    """Options of disruption masking."""

    of: str = "retain"
    """Set that says what must stay."""
    rows: int = Field(default=8, ge=1)
    """Of it, drawn anew for every step."""
    norm: float | None = Field(default=None, gt=0)
    """L2 norm that the masked gradient of what forgets is brought to; None = as it comes. The gradients of a whole step
    are clipped after it."""
    strict: bool = True
    """Weights outside the mask stay bit-identical; false masks the gradient of what forgets and nothing else."""


def agreeing(one: Float[Tensor, "..."], other: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """m: both have the same sign, and neither is 0.

    >>> agreeing(torch.tensor([1.0, -2.0, 3.0, 0.0]), torch.tensor([5.0, -1.0, -1.0, 0.0])).tolist()
    [True, True, False, False]
    """
    return one.sign() * other.sign() > 0


class Disruption(Rule):
    """A mask that is made for every step that forgets, from two gradients."""

    Config = DisruptionConfig
    use_when = "forgetting takes too much with it, and what it leaves comes back by relearning"
    place = "holds"

    @classmethod
    def reads(cls, config: Any) -> tuple[str, ...]:
        """What is forgotten, and what must stay."""
        return ("forget", config.of)

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Keep the rows at hand."""
        self._rows = sets[self.config.of].plain()
        self._taken, self._share = 0, 0.0
        self._mask: SaliencyMask | None = None

    def asking(self, model: nn.Module, phase: Phase, ask: AskGradients) -> AskGradients:
        """The gradient of what forgets, masked; of the rest as it is, or masked too."""
        if not forgets_in(phase):
            return ask

        def masked(which: Which = every, *, aside: bool = False, backward: bool = True) -> LossSaid:
            if not backward:
                return ask(which, aside=aside, backward=False)
            before = taken(model)
            found = ask(both(which, forgets), aside=True)
            forgetting = taken(model)
            kept = self._agreeing(model, forgetting, self._of_what_stays(model))
            found += ask(both(which, stays), aside=aside)
            others = taken(model)
            if self.config.strict:
                others = {name: g * kept[name] for name, g in others.items() if name in kept}
            for gradients in (before, self._scaled(forgetting, kept), others):
                given(model, gradients)
            return found

        return masked

    def _of_what_stays(self, model: nn.Module) -> Gradients:
        """g_r: of the mean −log p per position of rows drawn for this step."""
        ids = self._rows.ids
        count = min(self.config.rows, len(ids))
        chosen = [ids[i] for i in sorted(places(len(ids), self.setting.seed, "disruption", self._taken)[:count])]
        batch = self._rows.batch(chosen).to(next(model.parameters()).device)
        with torch.random.fork_rng(), statistics_kept(model, everywhere=True):
            (-batch.predict(model).logp_S.mean()).backward()  # type: ignore[no-untyped-call]
        return taken(model)

    def _agreeing(self, model: nn.Module, forgetting: Gradients, staying: Gradients) -> dict[str, Bool[Tensor, "..."]]:
        nothing = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in trainable(model).items()}
        both_of = {n: agreeing(g, staying[n]) for n, g in forgetting.items() if n in staying}
        kept = {**nothing, **both_of}
        self._mask = SaliencyMask.of(kept.items())
        self._share = self._mask.kept_share
        return kept

    def _scaled(self, forgetting: Gradients, kept: Mapping[str, Tensor]) -> Gradients:
        """C · m ⊙ g_f."""
        masked = {name: g * kept[name] for name, g in forgetting.items()}
        whole = float(length([*masked.values()])) if masked else 0.0
        if self.config.norm is None or not whole:
            return masked
        return {name: g * (self.config.norm / whole) for name, g in masked.items()}

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Mask what other rules added since."""
        if self.config.strict and self._mask is not None:
            self._mask.apply_(model)

    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> AbstractContextManager[None]:
        """Put the weights outside the mask back."""
        mask, self._mask = self._mask, None
        if mask is None:
            return nullcontext()
        return self._counted(restore_masked(model, mask) if self.config.strict else nullcontext())

    @contextmanager
    def _counted(self, held: AbstractContextManager[None]) -> Iterator[None]:
        with held:
            yield
        self._taken += 1

    def diagnostics(self, learning_rate: float) -> dict[str, float]:
        """Share of the weights where the last step that forgot found both of one sign."""
        return {"agreeing": self._share}

    def state(self) -> Gradients:
        """How many steps were taken: what is drawn follows from it."""
        return {"taken": torch.tensor(self._taken)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._taken = int(state.get("taken", torch.tensor(0)))
        self._mask = None


RULE = Disruption
