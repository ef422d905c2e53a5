"""The rules of one run at work: what the loop calls where one rule or none would stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.rules.asked import AskGradients
from palimpsest.rules.own_step import OptimizerStep
from palimpsest.rules.rule import OUTWARDS, Rule, Setting, StepIds

RULE_STATE = "rule/"  # before the number of a rule, in a checkpoint


class RuleStack:
    """Rules of a method, then those of its run; see ``rules/rule.py`` for how they nest."""

    def __init__(self, own: Sequence[Rule] = (), added: Sequence[Rule] = (), setting: Setting | None = None) -> None:
        """A stack; ``prepare`` comes next.

        Args:
            own: of the method.
            added: of the run.
            setting: of the run; None for a view of rules that have theirs.
        """
        self._added = tuple(added)
        self._setting = setting
        self._stack(tuple(own))

    def _stack(self, own: tuple[Rule, ...]) -> None:
        self._own = own
        self._rules = (*own, *self._added)
        self._outwards = sorted(self._rules, key=lambda rule: OUTWARDS.index(rule.nesting))
        # Of one place the first is outermost, so that the last one is nearest to the update.
        self._inwards = [rule for place in reversed(OUTWARDS) for rule in self._rules if rule.nesting == place]
        for rule in self._rules:
            rule.setting = self._setting or rule.setting

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet], given: Mapping[str, ExampleSet]) -> None:
        """Every rule looks at the weights that the run starts from.

        Args:
            model: prepared by the method.
            sets: those that the method draws from, for its own rules.
            given: all sets, for those of the run.
        """
        for rule in self._own:
            rule.prepare(model, sets)
        for rule in self._added:
            rule.prepare(model, given)

    def renew(self, own: Sequence[Rule], model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """The rules of a method that was built anew, from the weights at hand; those of the run go on."""
        self._stack(tuple(own))
        for rule in self._own:
            rule.prepare(model, sets)

    def of_the_run(self) -> RuleStack:
        """Without those of the method: they hold for the steps of repair, too."""
        return RuleStack((), self._added)

    def reopen(self, model: nn.Module) -> None:
        """Undo ``settle``."""
        for rule in self._inwards:
            rule.reopen(model)

    def asking(self, model: nn.Module, phase: Phase, ask: AskGradients) -> AskGradients:
        """What a step asks in the place of its plain gradients."""
        for rule in self._outwards:
            ask = rule.asking(model, phase, ask)
        return ask

    def stepping(self, phase: Phase, step: OptimizerStep) -> OptimizerStep:
        """What moves the weights."""
        for rule in self._outwards:
            step = rule.stepping(phase, step)
        return step

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Change the gradients: what adds to them first, then what holds weights still."""
        for rule in self._outwards:
            rule.transform(model, phase)

    @contextmanager
    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> Iterator[None]:
        """Wrap one update."""
        with ExitStack() as stack:
            for rule in self._inwards:
                stack.enter_context(rule.around(model, phase, ids))
            yield

    def settle(self, model: nn.Module) -> None:
        """Bring the weights to what would be saved now."""
        for rule in self._outwards:
            rule.settle(model)

    def diagnostics(self, learning_rate: float) -> dict[str, float]:
        """Numbers of all rules; those of the run under their kind."""
        found = {name: value for rule in self._own for name, value in rule.diagnostics(learning_rate).items()}
        for rule in self._added:
            found |= {f"{rule.kind}/{name}": value for name, value in rule.diagnostics(learning_rate).items()}
        return found

    def state(self) -> dict[str, Tensor]:
        """Of all rules, for a checkpoint: rule/<number>/<name>."""
        return {
            f"{RULE_STATE}{number}/{name}": tensor
            for number, rule in enumerate(self._rules)
            for name, tensor in rule.state().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``; what else is there is left alone."""
        for number, rule in enumerate(self._rules):
            prefix = f"{RULE_STATE}{number}/"
            rule.load_state({name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})


def without_rules(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What of a checkpoint's own tensors is the method's."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(RULE_STATE)}
