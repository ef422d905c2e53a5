"""A method at work in somebody else's trainer: the ids of its steps, its micro-batches, its loss, its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.data.encode.batch_norm import statistics_kept
from palimpsest.errors import PlanError
from palimpsest.integrations.served import one_phase
from palimpsest.loop.sampler import IdStream
from palimpsest.loop.step import micro_batches, own_counts, units_of, weighted_loss
from palimpsest.loop.training import Training
from palimpsest.rules.rule_stack import RuleStack, without_rules


class Objective:
    """One method in one run. ``begin`` draws a step as the loop draws it, ``loss`` is called for each micro-batch.

    Attributes:
        method: prepared.
        anchor: the set whose passes are the epochs.
        parts: micro-batches of the step at hand.
    """

    def __init__(
        self,
        method: Method,
        sets: Mapping[str, ExampleSet],
        pairs: Mapping[str, Mapping[str, str]],
        training: Training,
        rules: RuleStack,
    ) -> None:
        self.method = method
        self.anchor = method.draws_from(sets)[0]
        self.parts: list[dict[str, Batch]] = []
        self._sets, self._pairs, self._training = sets, pairs, training
        self._rules = rules
        self._streams = {name: IdStream(name, sets[name].ids, training.seed) for name in sets if name not in pairs}
        self._phase = Phase("", ())
        self._own: dict[str, Tensor] = {}
        self._sums: dict[str, float] = {}
        self._steps = 0

    def begin(self, step: int, planned: int, *, new_epoch: bool) -> None:
        """Draw the ids of a step and build its micro-batches.

        Args:
            step: counted from 0.
            planned: steps of the run.
            new_epoch: the anchor's next cycle begins.

        Raises:
            PlanError: the method asks for more than one plain phase.
        """
        phases = self.method.phases(step, planned)
        phase = one_phase(phases, self.anchor)
        if phase is None:
            names = ", ".join(phase.name for phase in phases) or "none"
            raise PlanError(
                f"step {step} has the phases {names}; accepted: one, a plain step with the set {self.anchor}"
            )
        if new_epoch:
            self._streams[self.anchor] = self._streams[self.anchor].restart(self._sets[self.anchor].ids)
        self._phase = phase
        drawn = self._drawn(phase)
        self.parts = micro_batches(self._sets, drawn, self.anchor, self._training.micro_batch_size)
        self._own = {}
        self._steps += 1

    def loss(self, model: nn.Module, number: int, accelerator: Accelerator) -> Tensor:
        """The part of a micro-batch in the loss of its step.

        Args:
            model: as it is trained.
            number: of the micro-batch in its step.
            accelerator: places batches and casts.
        """

        def terms_of(micro: Mapping[str, Batch]) -> Terms:
            placed = {name: batch.to(accelerator.device) for name, batch in micro.items()}
            with accelerator.autocast(), statistics_kept(model, everywhere=False):
                return self.method.loss(model, placed, self._phase)

        terms = terms_of(self.parts[number])
        if number == 0:
            self._own = own_counts(terms, model, terms_of, self.parts[1:])
        units = units_of(self.parts)
        counts = {name: units[term.of, term.per] for name, term in terms.items()} | self._own
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(term.total.detach() / counts[name])
        return weighted_loss(terms, counts)

    def transform(self, model: nn.Module) -> None:
        """What the method and its rules do to the gradients of a whole step, before they are clipped."""
        self.method.transform(model, self._phase)
        self._rules.transform(model, self._phase)

    def numbers(self, learning_rate: float) -> dict[str, float]:
        """Mean of each term over its unit, averaged over the steps since the last call; the method's diagnostics."""
        means = {f"term/{name}": total / self._steps for name, total in self._sums.items()} if self._steps else {}
        self._sums, self._steps = {}, 0
        said = {**self.method.diagnostics(learning_rate), **self._rules.diagnostics(learning_rate)}
        return means | {f"method/{name}": value for name, value in said.items()}

    def own_state(self) -> dict[str, Tensor]:
        """Tensors of the method and of its rules, for a checkpoint."""
        return {**self.method.state(), **self._rules.state()}

    def load_own(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``own_state``."""
        self.method.load_state(without_rules(state))
        self._rules.load_state(state)

    def positions(self) -> dict[str, list[int]]:
        """Cycle and cursor of every stream, from which a resumed run goes on."""
        return {name: [stream.cycle, stream.cursor] for name, stream in self._streams.items()}

    def go_to(self, positions: Mapping[str, Any]) -> None:
        """Inverse of ``positions``."""
        for name, (cycle, cursor) in positions.items():
            self._streams[name] = IdStream(name, self._sets[name].ids, self._training.seed, cycle, cursor)

    def _drawn(self, phase: Phase) -> dict[str, list[str]]:
        """Ids of a step; those of a paired set follow the anchor's."""
        ids, self._streams[self.anchor] = self._streams[self.anchor].draw(self._training.batch_size)
        drawn: dict[str, list[str]] = {}
        for name in phase.sets:
            if name in self._pairs:
                drawn[name] = [self._pairs[name][i] for i in ids]
            elif name == self.anchor:
                drawn[name] = ids
            else:
                wanted = self._training.drawn_from(name)
                drawn[name], self._streams[name] = self._streams[name].draw_around(wanted)
        return drawn
