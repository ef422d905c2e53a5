"""Gates: bounds that a run's scores must keep. How they are held against the scores is in ``judging.py``.

Quantities: the score itself; its difference from, or ratio to, a reference: the same examples before the run, under
the oracle, or at the level that a model would have that never saw them; or the holdout set under the model after.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from pydantic import ConfigDict, ValidationError, model_validator

from palimpsest.audit.comparison import Average, Mode
from palimpsest.chosen import Chosen
from palimpsest.errors import PlanError, unknown
from palimpsest.in_words import exact
from palimpsest.models.families.yardsticks import BY_TOKENS, Judging

SAME = 0.10
"""Two scores that differ by no more count as the same: the bound of every gate on the forget set."""

RelativeTo = Literal["before", "oracle", "level", "holdout"]
_WHOSE = {
    "before": "its value before",
    "oracle": "the oracle's",
    "level": "the level of never seen",
    "holdout": "the holdout's",
}


class Gate(Chosen):
    """One bound on one quantity. Exactly one of ``at_most``, ``at_least`` and ``within`` is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    set: str
    """Set whose score after the run is judged, e.g. "forget"."""
    metric: str
    """Key of the metric, e.g. "es"."""
    at_most: float | None = None
    """Upper bound of the quantity."""
    at_least: float | None = None
    """Lower bound of the quantity."""
    within: float | None = None
    """Bound > 0 of the absolute difference from the reference."""
    relative_to: RelativeTo | None = None
    """The same examples before the run, under the oracle, or at the level of never seen; or the holdout set after."""
    mode: Mode = "difference"
    """How the score is compared with the reference."""
    average: Average = "arithmetic"
    """Of a ratio; geometric (each example's own ratio, averaged as logarithms) suits perplexity."""

    @model_validator(mode="after")
    def _one_bound(self) -> Gate:
        given = [name for name in ("at_most", "at_least", "within") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"gate on {self.set} {self.metric} has {len(given)} bounds ({', '.join(given) or 'none'}); "
                "accepted: exactly one of at_most, at_least, within"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_reference(self) -> Gate:
        if self.relative_to is None and (self.within is not None or self.mode == "ratio"):
            raise ValueError(
                f"gate on {self.set} {self.metric} compares with nothing; "
                "within and mode='ratio' need relative_to = before, oracle, level or holdout"
            )
        if self.within is not None and (self.within <= 0 or self.mode == "ratio"):
            raise ValueError(
                f"gate on {self.set} {self.metric} has within={self.within:g}, mode={self.mode!r}; "
                "accepted: within > 0 with mode='difference'"
            )
        return self

    @property
    def sentence(self) -> str:
        """The gate in words.

        >>> Gate(set="forget", metric="es", within=0.1, relative_to="oracle").sentence
        "forget es within 0.10 of the oracle's"
        """
        return f"{self.set} {self.metric} {self.bound}"

    @property
    def bound(self) -> str:
        """The bound in words, without what it is on."""
        whose = _WHOSE.get(str(self.relative_to), "")
        if self.within is not None:
            return f"within {exact(self.within)} of {whose}"
        low, high = self.low_high
        upper = math.isfinite(high)
        end = high if upper else low
        if self.relative_to is None:
            return f"at {'most' if upper else 'least'} {exact(end)}"
        if self.mode == "ratio":
            return f"at {'most' if upper else 'least'} {exact(end)} times {whose}"
        # "at most 0.10 below" is what a lower bound of -0.10 means, and the reverse.
        word = "most" if upper == (end >= 0) else "least"
        return f"at {word} {exact(abs(end))} {'above' if end >= 0 else 'below'} {whose}"

    @property
    def low_high(self) -> tuple[float, float]:
        """The good side as a closed interval, infinite where it has no end."""
        if self.within is not None:
            return -self.within, self.within
        return (
            -math.inf if self.at_least is None else self.at_least,
            math.inf if self.at_most is None else self.at_most,
        )


def default_gates(
    kind: str,
    columns_present: Collection[str],
    sets_present: Collection[str],
    *,
    judging: Judging = BY_TOKENS,
    guards: bool = False,
) -> tuple[Gate, ...]:
    """The gates of a plan that names none.

    Args:
        kind: "learn", "unlearn", "update" (both) or "measure"; a measurement has no gates.
        columns_present: columns that will be measured, of "before", "after", "oracle", "level".
        sets_present: sets that will be measured.
        judging: of the family of the model.
        guards: as in ``forget_gates``.

    Returns:
        Unlearning: the gates on the forget set (``forget_gates``). Without a retain and a general set retain still has
        a gate, undecided: a model that forgot everything does not pass. All: retain es at least 0.90 times before,
        general ppl at most 1.10 times before. What was learned has no gate: es at 0.95 is verbatim memorisation, which
        few who teach a model want; who does asks for it in the plan. Of classes all of these look at accuracy, of which
        general keeps 0.90 times before. Absent sets get no gate.
    """
    if kind == "measure":
        return ()
    unlearns = kind in ("unlearn", "update")
    metrics = judging.gated
    ratio = Gate(set="general", metric="ppl", at_most=1.10, relative_to="before", mode="ratio", average="geometric")
    gates = [*(forget_gates(columns_present, sets_present, judging=judging, guards=guards) if unlearns else ())]
    gates += [_kept("retain", metrics[0]), _kept("general", judging.general) if judging.general else ratio]
    unguarded = unlearns and "forget" in sets_present and not {"retain", "general"} & set(sets_present)
    wanted = {*sets_present, "retain"} if unguarded else set(sets_present)
    return tuple(gate for gate in gates if gate.set in wanted)


def forget_gates(
    columns_present: Collection[str],
    sets_present: Collection[str],
    *,
    judging: Judging = BY_TOKENS,
    guards: bool = False,
) -> tuple[Gate, ...]:
    """The gates on the forget set: es and ma, or accuracy, against the best level of "never seen" there is.

    Within 0.10 of the oracle's; without one, within 0.10 of the level that was estimated; without that, at most 0.10
    above the holdout's. With none of them still the oracle's, which is then undecided by construction: an absolute
    level means nothing without knowing what a model scores that never saw the examples. Of a guard (``guards``) all are
    upper bounds: a refusal says openly that something is held back, and does not pass for never having seen it.
    """
    source: RelativeTo = "oracle"
    if "oracle" not in columns_present:
        source = "level" if "level" in columns_present else "holdout" if "holdout" in sets_present else "oracle"
    if guards or source == "holdout":
        return tuple(Gate(set="forget", metric=m, at_most=SAME, relative_to=source) for m in judging.gated)
    return tuple(Gate(set="forget", metric=m, within=SAME, relative_to=source) for m in judging.gated)


def _kept(name: str, metric: str) -> Gate:
    return Gate(set=name, metric=metric, at_least=0.90, relative_to="before", mode="ratio")


def refuse_unmeasured(gates: Iterable[Gate], measured: Mapping[str, Collection[str]], more: str = "") -> None:
    """Refuse a gate on what is not measured, which would come out undecided.

    Args:
        gates: as somebody asked for them.
        measured: set -> keys of its metrics.
        more: how to measure others, behind what is accepted.

    Raises:
        PlanError: with the closest set or metric that there is.
    """
    for gate in gates:
        if gate.set not in measured:
            raise PlanError(f"gate on {gate.set} {gate.metric}: {unknown('set of this run', gate.set, measured)}")
        if gate.metric not in measured[gate.set]:
            problem = unknown("metric of this set", gate.metric, measured[gate.set])
            raise PlanError(f"gate on {gate.set} {gate.metric}: {problem}{more}")


def parse_gates(rows: object) -> tuple[Gate, ...]:
    """Gates from the value of a plan's "gates".

    Raises:
        PlanError: it is no list, or one or more rows cannot be used; names all of them in one line.
    """
    if not isinstance(rows, (list, tuple)):
        raise PlanError(f"gates is {rows!r}; accepted: a list of rows with fields {', '.join(Gate.model_fields)}")
    gates, problems = [], []
    for number, row in enumerate(rows, start=1):
        try:
            gates.append(Gate.model_validate(row))
        except ValidationError as error:
            for problem in error.errors():
                place = ".".join(str(part) for part in problem["loc"])
                problems.append(f"gate {number}{f' ({place})' if place else ''}: {problem['msg']}")
    if problems:
        raise PlanError(f"{'; '.join(problems)}; accepted fields: {', '.join(Gate.model_fields)}")
    return tuple(gates)
