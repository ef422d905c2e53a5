"""Two models mixed: what is asked of them, each measurement taken once, and how a model between them is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from palimpsest.audit.calibration import SET, Calibrated, calibrated, halvings_of
from palimpsest.durable import check_held_still, with_usual_modes
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.output import ONLY_FOR_THE_RUN
from palimpsest.engine.save import answers
from palimpsest.in_words import show
from palimpsest.metrics.evaluate import evaluate_in_run
from palimpsest.metrics.metric import Metric
from palimpsest.models.mixture import Mixture
from palimpsest.models.parts.with_parts import write_version
from palimpsest.records import Cost

MIXING = "mixing"  # folder of a run for tensors that had to be written out
CALIBRATING = "calibrating"


@dataclass(frozen=True)
class Asking:
    """Takes the metric of a calibration, each time once.

    Attributes:
        mixture: of the two models.
        sets: encoded; "retain" is what is kept.
        metric: with its options.
        remember: name and what takes a measurement -> the measurement.
        say: told what is asked, and how many were.
    """

    mixture: Mixture
    sets: Mapping[str, Any]
    metric: Metric
    remember: Callable[[str, Callable[[], Measured]], Measured]
    say: Callable[[str, int, int, str], None]

    def found(self, tau: float, tolerance: float) -> Calibrated:
        """The share of the change that can stay."""
        most, asked = halvings_of(tolerance) + 2, 0

        def remember(alpha: float, compute: Callable[[], Measured]) -> Measured:
            nonlocal asked
            self.say(CALIBRATING, asked, most, f"{self.metric.key} of {SET} at alpha {show(alpha)}")
            asked += 1
            return self.remember(_name(SET, alpha), compute)

        kept = calibrated(
            self.mixture.before,
            self.mixture,
            self.sets[SET],
            metric=self.metric,
            tau=tau,
            tolerance=tolerance,
            remember=remember,
        )
        self.say(CALIBRATING, most, most, f"alpha {show(kept.alpha)}")
        return kept

    def column(self, alpha: float) -> Measured:
        """Scores of a mixed model on all sets."""
        return together([self.remember(_name(name, alpha), partial(self._take, name, alpha)) for name in self.sets])

    def _take(self, name: str, alpha: float) -> Measured:
        with self.mixture.at(alpha) as model:
            return take(model, name, self.sets[name], self.metric, self.mixture.before.eos_ids)


def _name(set_name: str, alpha: float) -> str:
    """What a measurement is remembered by."""
    return f"mixed-{set_name}-{alpha:.6f}"


def take(model: Any, name: str, examples: Any, metric: Metric, eos_ids: frozenset[int]) -> Measured:
    """One metric of one set."""
    found = evaluate_in_run(model, examples, [metric], eos_ids=eos_ids)
    return {name: found.scores}, found.cost


def together(taken: list[Measured]) -> Measured:
    """Several sets as one column."""
    costs = [cost for _, cost in taken]
    peak = max(cost.peak_bytes for cost in costs)
    cost = Cost(sum(cost.seconds for cost in costs), sum(cost.tokens for cost in costs), peak)
    return {name: scores for found, _ in taken for name, scores in found.items()}, cost


def save_mixed(mixture: Mixture, alpha: float, folder: Path, sets: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write a mixed model with what belongs beside it, as a plain folder.

    Args:
        mixture: of two models; nothing is asked of it afterwards.
        alpha: share of the change.
        folder: there; what lies in it under the same names is replaced.
        sets: encoded, to ask it a few examples of.

    Returns:
        What it answers, for ``load_saved``.
    """
    with mixture.to_save(alpha) as model:
        said = answers(model, sets)
        check_held_still(folder)
        write_version(model, folder, safe_serialization=True)
    if mixture.before.companion is not None:
        mixture.before.companion.save_pretrained(folder)
    with_usual_modes(folder, ONLY_FOR_THE_RUN)
    return said
