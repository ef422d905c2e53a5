"""ICU's iterative refinement, usable with any method: per-example tests of what is still remembered.

Source: Tang, Liu et al., arXiv:2407.20271 (iterative refinement); the level "forgotten" after Jang et al. 2022,
arXiv:2210.01504: an example is forgotten when its EL_n and MA are no higher than the average of comparable text the
model never saw. Every example is tested at every check, so one that left the batches can come back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from palimpsest.audit.refinement import Refinement
from palimpsest.data.encode.batch import TextSet
from palimpsest.errors import PlanError
from palimpsest.in_words import show
from palimpsest.loop.stopping import Check
from palimpsest.metrics import build
from palimpsest.metrics.evaluate import Evaluation, evaluate_in_run
from palimpsest.records import Score


@dataclass(frozen=True)
class Levels:
    """At or below these an example counts as forgotten; where they come from."""

    ma: float
    el: float
    source: str


def measured_levels(config: Refinement, comparable: Evaluation, forget: Evaluation, source: str) -> Levels:
    """Levels of comparable text, for those the config leaves open.

    Args:
        config: explicit levels win.
        comparable: MA and EL_n of the holdout or of the neighbours, before the run.
        forget: MA and EL_n of the forget set, before the run.
        source: name of the comparable set, for messages.

    Raises:
        PlanError: the comparable text is remembered as well as the forget set, so it is no measure of forgetting.
    """
    found = {}
    for key, given in (("ma", config.ma), (f"el_{config.n}", config.el)):
        level, own = _level(comparable.scores[key], config.quantile), forget.scores[key].value
        if given is not None:
            found[key] = given
        elif level is None:
            raise PlanError(f"refine: {key} cannot be scored on the {source} set; set refine.{key.split('_')[0]}")
        else:
            found[key] = level
            if key == "ma" and own is not None and level >= own:
                raise PlanError(
                    f"refine: MA on the {source} set ({level:.2f}) is not below the forget set's ({own:.2f}); give a "
                    "holdout the model never saw, or set refine.ma and refine.el"
                )
    return Levels(found["ma"], found[f"el_{config.n}"], source)


def _level(score: Score, quantile: float | None) -> float | None:
    """The mean, or a quantile of the per-example values."""
    values = [value for value in score.by_id.values() if value is not None]
    return score.value if quantile is None or not values else float(np.quantile(values, quantile))


class ExtractionTest:
    """Examples whose MA or EL_n is above its level go on; a floor of utility ends the run."""

    def __init__(
        self,
        forget: TextSet,
        levels: Levels,
        config: Refinement,
        *,
        eos_ids: frozenset[int],
        utility: Utility | None = None,
    ) -> None:
        self._forget = forget
        self._levels = levels
        self._metrics = extraction_metrics(config)
        self._el = f"el_{config.n}"
        self._share = config.share
        self._eos_ids = eos_ids
        self._utility = utility or Utility({}, None)

    def check(self, model: nn.Module, step: int) -> Check:
        """Measure MA and EL_n of every forget example."""
        scores = evaluate_in_run(model, self._forget, self._metrics, eos_ids=self._eos_ids).scores
        ma, el = scores["ma"].by_id, scores[self._el].by_id
        active = tuple(i for i in self._forget.ids if _above(ma[i], self._levels.ma) or _above(el[i], self._levels.el))
        found = {f"forget.{key}": s.value for key, s in scores.items() if s.value is not None}
        found |= self._utility.measure(model)
        enough = enough_pass(len(active), len(self._forget), self._share)
        return Check(active, found, self._utility.broken(found), enough)


def enough_pass(num_active: int, total: int, share: float) -> str | None:
    """Why a run may end with examples still active, or None.

    >>> enough_pass(1, 16, share=0.9)
    '15 of 16 examples pass, enough for refine.share = 0.9'
    """
    if num_active > (1 - share) * total:
        return None
    return f"{total - num_active} of {total} examples pass, enough for refine.share = {share:g}"


def _above(value: float | None, level: float) -> bool:
    """Unscored examples are too short to be extracted and never hold up a run."""
    return value is not None and value > level


def extraction_metrics(config: Refinement) -> list[Any]:
    """MA and EL_n as the config wants them."""
    return [build("ma", {}), build("el", {"n": config.n, "first_prefix": config.first_prefix})]


class Utility:
    """What must not break while the run goes on: answer probability on retain, perplexity on general text."""

    def __init__(self, sets: Mapping[str, TextSet], floor: float | None) -> None:
        self._sets = sets
        self._floor = floor
        self._at_start: dict[str, float] = {}

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Values now, keyed "set.metric"."""
        found: dict[str, float] = {}
        for name, examples in self._sets.items():
            key = "ppl" if name == "general" else "prob"
            value = evaluate_in_run(model, examples, [build(key, {})]).scores[key].value
            if value is not None:
                found[f"{name}.{key}"] = value
        self._at_start = self._at_start or found
        return found

    def broken(self, found: Mapping[str, float]) -> str | None:
        """Why the run must end, or None."""
        before, now = self._at_start.get("retain.prob"), found.get("retain.prob")
        if self._floor is None or before is None or now is None or now >= self._floor * before:
            return None
        return f"utility floor: retain answer probability {show(now)} is below {self._floor:g} of {show(before)}"
