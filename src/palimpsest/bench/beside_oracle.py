"""What a model says of every example, beside its oracle, in one pass of each; then the means over sets.

The metrics are those of runs: accuracy of images is that of ``metrics/accuracy.py``, of texts the share of right tokens
of ``metrics/ma.py``; ES of ``metrics/es.py``; nll, entropy and KL to the oracle likewise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palimpsest.bench.results import FORGOT, TASK, SetScore, StepReading
from palimpsest.data.encode.any_set import MeasuredSet
from palimpsest.data.encode.image import ImageSet
from palimpsest.errors import DivergedError
from palimpsest.metrics.accuracy import Accuracy
from palimpsest.metrics.entropy import Entropy
from palimpsest.metrics.es import ES
from palimpsest.metrics.evaluate import PassSettings, evaluate
from palimpsest.metrics.kl_beside import KLBeside
from palimpsest.metrics.ma import MA
from palimpsest.metrics.metric import Metric
from palimpsest.metrics.nll import NLL
from palimpsest.metrics.per_set import set_metric, set_metric_names
from palimpsest.models.families import family_named
from palimpsest.models.text_config import vocabulary_of

BATCH = 64  # examples at once, fewer where their logits would take more than LOGITS
LOGITS = 2**26  # numbers
OF_TEXTS: Mapping[str, type[Metric]] = {"accuracy": MA, "nll": NLL, "entropy": Entropy, "strength": ES}
_OF_CLASSES: Mapping[str, type[Metric]] = {"accuracy": Accuracy, "nll": NLL, "entropy": Entropy}
"""Column -> its metric. ES of an image would be its accuracy."""
AS_TRAINED = PassSettings(logits_bytes=2**62, by_length=False, fused=False)  # batches as below, computed as a step does
_EXACT = ("strength",)  # the other columns are kept in single precision, as torch divides them
RowValues = Mapping[str, Mapping[str, float]]


def reading(values: RowValues, sets: Mapping[str, Sequence[str]]) -> StepReading:
    """Means over sets, and the metrics of several sets.

    Args:
        values: of ``read_model``, for all examples of the sets.
        sets: name -> ids; empty ones are left out.
    """
    scores = {name: _score(values, ids, keep=name.startswith((TASK, FORGOT))) for name, ids in sets.items() if ids}
    found = over_sets(values, {name: sets[name] for name in scores})
    mia, power = found.pop("mia_entropy", None), found.pop("mia_power", None)
    return StepReading(sets=scores, mia=mia, mia_power=power, over_sets=found)


def over_sets(values: RowValues, sets: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Every metric of several sets whose sets are all there."""
    found: dict[str, float] = {}
    for metric in map(set_metric, set_metric_names()):
        if metric.needs.keys() <= sets.keys():
            columns = {name: np.array([values[i][of] for i in sets[name]]) for name, of in metric.needs.items()}
            value = metric.compute(columns).value
            found |= {} if value is None else {metric.key: value}
    return found


def _score(values: RowValues, ids: Sequence[str], *, keep: bool) -> SetScore:
    def by_id(column: str) -> dict[str, float]:
        return {i: values[i][column] for i in ids if column in values[i]}

    def mean(column: str) -> float | None:
        found = by_id(column).values()
        return math.fsum(found) / len(found) if found else None

    return SetScore(
        n=len(ids),
        accuracy=mean("accuracy"),
        strength=mean("strength"),
        nll=mean("nll"),
        kl=mean("kl"),
        accuracies=by_id("accuracy") if keep else {},
        strengths=by_id("strength") if keep else {},
    )


def read_model(
    model: Any, oracle: Any | None, examples: MeasuredSet, eos_ids: frozenset[int] = frozenset()
) -> dict[str, dict[str, float]]:
    """Example -> column -> value, for all examples.

    Args:
        model: on its device.
        oracle: likewise, or None; then there is no "kl".
        examples: any number.
        eos_ids: tokens that end a generation.

    Raises:
        DivergedError: the model's logits are not finite.
    """
    columns: dict[str, Metric] = {name: metric() for name, metric in _metrics(examples).items()}
    columns |= {} if oracle is None else {"kl": KLBeside()}
    scores = evaluate(
        model,
        examples,
        list(columns.values()),
        eos_ids=eos_ids,
        beside=oracle,
        batch_size=_at_once(model, examples),
        settings=AS_TRAINED,
    ).scores
    found = {i: {name: scores[metric.key].by_id.get(i) for name, metric in columns.items()} for i in examples.ids}
    return _checked({i: _kept(values) for i, values in found.items()})


def _kept(values: Mapping[str, float | None]) -> dict[str, float]:
    """Column -> value of one example, where it has one, as exactly as it is kept."""
    there = {name: value for name, value in values.items() if value is not None}
    return {name: value if name in _EXACT else float(np.float32(value)) for name, value in there.items()}


def _checked(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The same; all of it are numbers."""
    if unfit := [i for i, values in found.items() if not all(map(math.isfinite, values.values()))]:
        raise DivergedError(f"the model's logits on {len(unfit)} examples (first: {unfit[0]!r}) are not finite numbers")
    return found


def _metrics(examples: MeasuredSet) -> Mapping[str, type[Metric]]:
    return _OF_CLASSES if family_named(examples.family).has_classes else OF_TEXTS


def _at_once(model: Any, examples: MeasuredSet) -> int:
    """Examples whose padded logits fit."""
    outputs = vocabulary_of(model) or int(model.config.num_labels)
    longest = 1 if isinstance(examples, ImageSet) else max(len(examples[i].tokens) for i in examples.ids)
    return max(1, min(BATCH, LOGITS // (outputs * longest)))
