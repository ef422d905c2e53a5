"""Scores of one model on all sets of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from palimpsest.data.sets.roles import ROLES, role_of
from palimpsest.engine.inputs import subset
from palimpsest.engine.output import Measured
from palimpsest.engine.progress import Progress
from palimpsest.engine.sections import Measuring
from palimpsest.metrics import build, refuse_modality
from palimpsest.records import Cost

if TYPE_CHECKING:  # which metrics fit is said before torch is imported
    from palimpsest.data.encode.batch import TextSet
    from palimpsest.data.encode.image import ImageSet
    from palimpsest.models.load import Loaded

MEASURED = tuple(role.name for role in ROLES.values() if role.measured)
IMAGE_METRICS = ("accuracy", "prob")


def chosen_metrics(measuring: Measuring, set_name: str, modality: str = "text") -> list[Any]:
    """The metrics of a set: the plan's; perplexity alone on general text; of images, unless asked, their own.

    Raises:
        PlanError: the plan asks for one that cannot be taken of this kind of examples.
    """
    names = measuring.metrics
    if modality == "image" and "metrics" not in measuring.model_fields_set:
        names = IMAGE_METRICS
    elif modality == "text":
        names = role_of(set_name).metrics or names
    found = [build(name, measuring.options.get(name, {})) for name in names]
    refuse_modality(found, modality)
    return found


def measure_sets(
    loaded: Loaded,
    sets: Mapping[str, TextSet | ImageSet],
    measuring: Measuring,
    *,
    seed: int,
    column: str,
    progress: Progress,
) -> Measured:
    """Every set of ``MEASURED`` that was given, with its metrics.

    Args:
        loaded: the model, on its device.
        sets: set name -> encoded examples; replay is not measured.
        measuring: which metrics, how many examples.
        seed: of the subsets.
        column: "before", "after" or "oracle", for the progress.
        progress: told the examples done.

    Returns:
        set -> metric key -> score, and what measuring cost.
    """
    from palimpsest.metrics.evaluate import evaluate_in_run

    found, costs = {}, []
    for name in (n for n in MEASURED if n in sets):
        examples = subset(sets[name], measuring.limit, seed, name)
        evaluation = evaluate_in_run(
            loaded.model,
            examples,
            chosen_metrics(measuring, name, loaded.modality),
            eos_ids=loaded.eos_ids,
            progress=lambda done, total, name=name: progress(f"measuring {column}: {name}", done, total),  # type: ignore[misc]
        )
        found[name] = evaluation.scores
        costs.append(evaluation.cost)
    total = Cost(
        sum(c.seconds for c in costs), sum(c.tokens for c in costs), max((c.peak_bytes for c in costs), default=0)
    )
    return found, total
