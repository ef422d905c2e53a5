"""What a rule is: what may happen around the steps of a run, whatever its objective. The loop knows rules only by this.

    reopen -> asking(gradients of the loss) -> method.transform -> transform -> clip -> around(update) -> diagnostics

A run stacks rules: those that its method has itself (``Method.rules``), then its own (``plan.rules``). They nest by
what they do to the weights, whatever the order they are given in: outermost what *watches* a step, so that it sees what
the step came to; within it what *holds* weights still, so that nothing moves them; innermost what *moves* them. Rules
of one place act in the order given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from palimpsest.method_card import Config

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

    from palimpsest.contract import ExampleSet, Phase
    from palimpsest.rules.asked import AskGradients
    from palimpsest.rules.own_step import OptimizerStep

StepIds = Mapping[str, Sequence[str]]
"""Set -> ids of its examples whose gradients a step takes; empty for a step that takes none."""
Nesting = Literal["moves", "holds", "watches"]
OUTWARDS: tuple[Nesting, ...] = ("moves", "holds", "watches")
"""From the inside out."""


@dataclass(frozen=True)
class Setting:
    """The run that a rule is at work in.

    Attributes:
        folder: of the run; what a rule writes there is its own to name, and to clear away.
        start: folder of the version that the run starts from, beside which its histories lie; None = none is known.
        seed: of the run. What a rule draws is drawn by (seed, step), so that a resumed run draws the same.
    """

    folder: Path = Path()
    seed: int = 0
    start: Path | None = None


class Rule:
    """One thing that happens around the steps. Subclass it in ``rules/<name>.py`` and set ``RULE``.

    Class attributes:
        Config: its options.
        use_when: one sentence for who chooses.
        place: what it does to the weights in ``around``; see the top of this file.

    Attributes:
        setting: of the run; set before ``prepare``.
    """

    Config: ClassVar[type[BaseModel]] = Config
    use_when: ClassVar[str] = ""
    place: ClassVar[Nesting] = "moves"

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config
        self.setting = Setting()

    @property
    def kind(self) -> str:
        """Its name: that of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def nesting(self) -> Nesting:
        """Where it stands with these options; default: ``place``."""
        return self.place

    @classmethod
    def reads(cls, config: Any) -> tuple[str, ...]:
        """Sets that ``prepare`` looks at with these options; a run must be given them."""
        return ()

    @classmethod
    def decides(cls, config: Any) -> str:
        """In words, what only one rule of a run can decide: two rules that say the same contradict."""
        return f"what the rule {cls.__module__.rpartition('.')[2]} decides"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Look at the weights that the run starts from; may freeze what it will never let move.

        Runs again before a resume, and must then find the same.
        """

    def reopen(self, model: nn.Module) -> None:
        """Undo ``settle``, before the gradients of the next step are taken; default: nothing to undo."""

    def asking(self, model: nn.Module, phase: Phase, ask: AskGradients) -> AskGradients:
        """What is asked in the place of the plain gradients of a step (``rules/asked.py``); default: these.

        What ``ask`` gives is what rules further in made of them.
        """
        return ask

    def stepping(self, phase: Phase, step: OptimizerStep) -> OptimizerStep:
        """What moves the weights in the place of the optimizer's step; default: that."""
        return step

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Change the accumulated gradients in place, after the method's own ``transform`` and before clipping."""

    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> AbstractContextManager[None]:
        """Wrap one update: the weights before it, the weights after it, and whose gradients it took.

        Args:
            model: its weights are those before the update on entering, those after it on leaving.
            phase: of the method, or "repair".
            ids: of the step's examples. Momentum may hold those of earlier steps.
        """
        return nullcontext()

    def settle(self, model: nn.Module) -> None:
        """Bring the weights to what would be saved now, before a check and at the end; twice is as good as once."""

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """Numbers about the iteration that just ended, for the log."""
        return {}

    def state(self) -> Mapping[str, Tensor]:
        """What ``prepare`` cannot rebuild, for a checkpoint: what follows the steps, and goes back where they do."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``; called after ``prepare``. Empty where there was none."""
