"""What an evaluation refuses, and which metrics it cannot score: nobody serves what they ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import nn

from palimpsest.data.encode.any_set import MeasuredSet
from palimpsest.data.encode.batch import TextBatch
from palimpsest.errors import DataError, PlanError
from palimpsest.method_card import KIND_WORDS
from palimpsest.metrics import refuse_kind
from palimpsest.metrics.metric import Ask, Metric
from palimpsest.models.families import family_named
from palimpsest.models.text_config import most_tokens, vocabulary_of

NOT_BESIDE = "no second model to compare with was given"


def unserved(metric: Metric, examples: MeasuredSet, beside: nn.Module | None) -> str:
    """Why a metric cannot be scored, in words; "" where it can."""
    family = family_named(examples.family)
    if missing := sorted(ask.value for ask in metric.asks if ask.name not in family.serves):
        usual = family.has_gradient and (family.reads_prefixes or family.has_classes)
        of = KIND_WORDS[family.takes] if usual else family.noun
        return f"nothing serves {', '.join(missing)} of {of}"
    return NOT_BESIDE if Ask.BESIDE in metric.asks and beside is None else ""


def refuse_call(metrics: Sequence[Metric], batch_size: int, examples: MeasuredSet) -> None:
    """Refuse metrics and batch sizes.

    Raises:
        PlanError: two metrics with one key, one that cannot be taken of images, or a batch size below 1.
    """
    refuse_kind(metrics, family_named(examples.family).takes)
    repeated = sorted(key for key, count in Counter(metric.key for metric in metrics).items() if count > 1)
    if repeated:
        raise PlanError(f"metric asked for twice: {', '.join(repeated)}; name each once, or measure in two calls")
    if batch_size < 1:
        raise PlanError(f"batch_size is {batch_size}; accepted: 1 or more")


def refuse_batch(model: nn.Module, batch: TextBatch) -> None:
    """Refuse what a causal LM cannot take.

    Raises:
        DataError: an example that is too long, or a token outside the vocabulary.
    """
    longest, vocabulary = most_tokens(model), vocabulary_of(model)
    for example_id, tokens_T, length in zip(batch.ids, batch.input_ids_BT, batch.lengths_B.tolist(), strict=True):
        if longest is not None and length > longest:
            raise DataError(
                f"example {example_id!r} has {length} tokens; the model takes at most {longest}: shorten it"
            )
        largest = int(tokens_T[:length].max())
        if vocabulary is not None and largest >= vocabulary:
            raise DataError(
                f"example {example_id!r} holds token id {largest}; the model knows the ids 0 to {vocabulary - 1}: "
                "encode it with the model's own tokenizer"
            )
