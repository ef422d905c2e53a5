"""Scores of one model on all sets of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palimpsest.data.sets.roles import ROLES, role_of
from palimpsest.engine.decoded import cost_said, decoding
from palimpsest.engine.inputs import subset
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.progress import Progress
from palimpsest.engine.sections import Measuring
from palimpsest.metrics import build, refuse_kind
from palimpsest.models.families import CAUSAL, Family, family_named
from palimpsest.records import Cost

if TYPE_CHECKING:  # which metrics fit is said before torch is imported
    from palimpsest.data.encode.any_set import MeasuredSet
    from palimpsest.metrics.evaluate import Evaluation
    from palimpsest.metrics.metric import Metric
    from palimpsest.models.load import Loaded

_CAUSAL = family_named(CAUSAL)
MEASURED = tuple(role.name for role in ROLES.values() if role.measured)


def chosen_metrics(measuring: Measuring, set_name: str, family: Family = _CAUSAL) -> list[Any]:
    """The metrics of a set: the plan's, else the family's; perplexity alone on general text.

    Raises:
        PlanError: the plan asks for one that cannot be taken of this kind of examples.
    """
    names = measuring.metrics
    if family.metrics is not None and "metrics" not in measuring.model_fields_set:
        names = family.metrics
    if not family.has_classes:
        names = role_of(set_name).metrics or names
    found = [build(name, measuring.options.get(name, {})) for name in names]
    refuse_kind(found, family.takes)
    return found


def measured_by(measuring: Measuring, names: Iterable[str], family: Family) -> dict[str, list[Metric]]:
    """The metrics of every set of ``MEASURED`` that a run has.

    Args:
        measuring: of the plan.
        names: of its sets.
        family: of its model.
    """
    given = frozenset(names)
    return {name: chosen_metrics(measuring, name, family) for name in MEASURED if name in given}


def measure_sets(
    loaded: Loaded,
    sets: Mapping[str, MeasuredSet],
    measuring: Measuring,
    *,
    seed: int,
    column: str,
    progress: Progress,
    decodes: bool = True,
) -> Measured:
    """Every set of ``MEASURED`` that was given, with its metrics.

    Args:
        loaded: the model, on its device.
        sets: set name -> encoded examples; replay is not measured.
        measuring: which metrics, how many examples.
        seed: of the subsets.
        column: "before", "after" or "oracle", for the progress.
        progress: told the examples done.
        decodes: False leaves out the metrics that decode.

    Returns:
        set -> metric key -> score, and what measuring cost.
    """
    found, costs = {}, []
    for name, chosen in measured_by(measuring, sets, loaded.family).items():
        metrics = chosen if decodes else [metric for metric in chosen if metric.decoding is None]
        parts = _parts(sets[name], metrics, measuring, seed=seed, name=name)
        stage = f"measuring {column}: {name}"
        evaluations = list(_evaluations(loaded, parts, stage, progress))
        scores = {key: score for evaluation in evaluations for key, score in evaluation.scores.items()}
        found[name] = {metric.key: scores[metric.key] for metric in metrics}
        costs += [evaluation.cost for evaluation in evaluations]
    return found, _together(costs)


def _together(costs: Sequence[Cost]) -> Cost:
    """Several passes, one after another."""
    peak = max((cost.peak_bytes for cost in costs), default=0)
    return Cost(sum(cost.seconds for cost in costs), sum(cost.tokens for cost in costs), peak)


Share = tuple["MeasuredSet", list["Metric"]]


def _parts(examples: MeasuredSet, metrics: list[Metric], measuring: Measuring, *, seed: int, name: str) -> list[Share]:
    """Which examples are measured by what: by all metrics at once where the sample that is decoded is all of them."""
    measured = subset(examples, measuring.limit, seed, name)
    sample = subset(examples, min(measuring.limit, measuring.decoded_limit), seed, name)
    decode = decoding(metrics)
    if not decode or len(sample) == len(measured):
        return [(measured, metrics)]
    others = [metric for metric in metrics if metric.decoding is None]
    return [*([(measured, others)] if others else []), (sample, decode)]


def _evaluations(loaded: Loaded, parts: list[Share], stage: str, progress: Progress) -> Iterator[Evaluation]:
    from palimpsest.metrics.evaluate import evaluate_in_run

    total, before = sum(len(examples) for examples, _ in parts), 0
    for examples, metrics in parts:
        if note := cost_said(examples, metrics, len(parts[0][0])):  # type: ignore[arg-type]  # images are not decoded
            progress(stage, before, total, note)
        yield evaluate_in_run(
            loaded.model,
            examples,
            metrics,
            eos_ids=loaded.eos_ids,
            progress=lambda done, _total, before=before: progress(stage, before + done, total),  # type: ignore[misc]
        )
        before += len(examples)
