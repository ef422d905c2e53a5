"""What a model says of every example, beside its oracle, in one pass of each; then the means over sets.

    accuracy_i = share of the scored positions of i whose arg-max is right       nll_i = mean of −log p(right)
    ES_i       = 1 − k/L, k leading positions after which all are right           H_i   = mean entropy
    KL_i       = mean over the positions of KL(oracle ‖ model)

Shape legend: B examples of a batch, S scored positions, V vocabulary (or classes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from palimpsest.audit.membership import entropy, mia_entropy
from palimpsest.bench.results import FORGOT, TASK, SetScore, StepReading
from palimpsest.data.encode.batch import ExampleSet, Predictions, TextSet
from palimpsest.errors import DivergedError
from palimpsest.models.divergence import kl_divergence
from palimpsest.models.modes import asked
from palimpsest.models.text_config import vocabulary_of

BATCH = 64  # examples at once, fewer where their logits would take more than LOGITS
LOGITS = 2**26  # numbers
ATTACKED = ("retain", "test", "forget")  # members, non-members, and what is in question
RowValues = Mapping[str, Mapping[str, float]]


def reading(values: RowValues, sets: Mapping[str, Sequence[str]]) -> StepReading:
    """Means over sets, and the attack on the forget set.

    Args:
        values: of ``read_model``, for all examples of the sets.
        sets: name -> ids; empty ones are left out.
    """
    scores = {name: _score(values, ids, keep=name.startswith((TASK, FORGOT))) for name, ids in sets.items() if ids}
    if not scores.keys() >= set(ATTACKED):
        return StepReading(sets=scores)
    attack = mia_entropy(*(np.array([values[i]["entropy"] for i in sets[name]]) for name in ATTACKED))
    return StepReading(sets=scores, mia=attack.share, mia_power=attack.power)


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


def read_model(model: Any, oracle: Any | None, examples: ExampleSet) -> dict[str, dict[str, float]]:
    """Example -> column -> value, for all examples.

    Args:
        model: on its device.
        oracle: likewise, or None; then there is no "kl".
        examples: any number.

    Raises:
        DivergedError: the model's logits are not finite.
    """
    found: dict[str, dict[str, float]] = {}
    with asked(model) if oracle is None else asked(model, oracle):
        for ids in _batches(examples, _at_once(model, examples)):
            batch = examples.batch(ids).to(next(model.parameters()).device)
            reference = None if oracle is None else batch.predict(oracle)
            columns = examine_beside(batch.predict(model), reference, strength=isinstance(examples, TextSet))
            for row, example_id in enumerate(ids):
                found[example_id] = {name: values_B[row] for name, values_B in columns.items()}
    if unfit := [i for i, values in found.items() if not all(map(math.isfinite, values.values()))]:
        raise DivergedError(f"the model's logits on {len(unfit)} examples (first: {unfit[0]!r}) are not finite numbers")
    return found


def examine_beside(said: Predictions, reference: Predictions | None, *, strength: bool) -> dict[str, list[float]]:
    """Column -> value of each example of a batch; ES where it is asked for: of images it is the accuracy."""
    right_S = said.logits_SV.argmax(-1) == said.target_S
    columns_S = {
        "accuracy": right_S.float(),
        "nll": -said.logp_S,
        "entropy": entropy(said.logits_SV),
    }
    if reference is not None:
        columns_S["kl"] = kl_divergence(reference.logits_SV, said.logits_SV)
    columns = {name: (said.sum_by_example(values_S) / said.count_B).tolist() for name, values_S in columns_S.items()}
    if strength:
        columns["strength"] = _strengths(right_S.tolist(), said.owner_S.tolist(), said.num_examples)
    return columns


def _strengths(right_S: Sequence[bool], owner_S: Sequence[int], num_examples: int) -> list[float]:
    """ES of each example: the length of its right ending by its length."""
    ending, length = [0] * num_examples, [0] * num_examples
    for right, owner in zip(right_S, owner_S, strict=True):
        ending[owner] = ending[owner] + 1 if right else 0
        length[owner] += 1
    return [tail / size for tail, size in zip(ending, length, strict=True)]


def _at_once(model: Any, examples: ExampleSet) -> int:
    """Examples whose padded logits fit."""
    outputs = vocabulary_of(model) or int(model.config.num_labels)
    longest = max(len(examples[i].tokens) for i in examples.ids) if isinstance(examples, TextSet) else 1
    return max(1, min(BATCH, LOGITS // (outputs * longest)))


def _batches(examples: ExampleSet, size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(examples), size):
        yield examples.ids[start : start + size]
