"""What the metrics are: their full names, and a sentence each for readers who do not know the field.

A metric that has no words here is told in those of its own file (``Metric.means``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from palimpsest import metrics as registry

FULL_NAMES = {
    "es": "extraction strength",
    "ma": "memorization accuracy",
    "el": "extraction likelihood",
    "em": "exact memorization",
    "prob": "answer probability",
    "ppl": "perplexity",
    "nll": "negative log-likelihood",
    "entropy": "prediction entropy",
    "kl": "KL divergence from a second model",
}
ABBREVIATIONS = {"es", "ma", "el", "em"}
SENTENCES: Mapping[str, str] = {
    "es": (
        "the share of an answer that the model need not be shown, because it knows how it ends. 1.00 is by heart. Its "
        "closing token does not count."
    ),
    "ma": (
        "the share of its tokens (words and pieces of words) that the model would write next, each time shown all that "
        "comes before. Grammar and common phrases alone give a good part of it."
    ),
    "el": "the share of runs of {n} tokens that come back literally when the model goes on by itself.",
    "em": "the same as MA over the answer alone, without the mark that ends it.",
    "prob": "how likely the model finds each token of the answer, on average.",
    "ppl": "among how many tokens the model hesitates, on average, when it reads on: 1.00 is certain, more is worse.",
    "accuracy": "the share of answers that are right to the last token.",
    "nll": "how surprised the model is by the right answer, in nats a token; 0 is not at all.",
    "entropy": "how unsure the model is of what it says there, right or wrong, in nats a token; 0 is quite sure.",
    "kl": "how far the model's predictions are from those of a second model beside it, in nats a token.",
}
_OF_IMAGES: Mapping[str, str] = {
    "prob": "how likely the model finds the class that the image has.",
    "accuracy": "the share of images whose class the model names.",
    "nll": "how surprised the model is by the class that the image has, in nats; 0 is not at all.",
    "entropy": "how unsure the model is of the class, right or wrong, in nats; 0 is quite sure.",
    "kl": "how far the model's predictions are from those of a second model beside it, in nats.",
}
DEFAULT_N = "10"


class Entry(NamedTuple):
    """One line of the glossary."""

    name: str
    full_name: str
    sentence: str


def full_name(metric: str) -> str:
    """What the abbreviation stands for, or the key itself.

    >>> full_name("el_10"), full_name("mine")
    ('extraction likelihood', 'mine')
    """
    return FULL_NAMES.get(stem(metric), metric)


def stem(metric: str) -> str:
    """The metric that a key is of: its file's name, without what options add to it.

    >>> stem("el_10"), stem("ma"), stem("mine_too")
    ('el', 'ma', 'mine_too')
    """
    known = [name for name in registry.names() if f"{metric}_".startswith(f"{name}_")]
    return max(known, key=len, default=metric)


def written_name(metric: str) -> str:
    """A metric as prose has it.

    >>> written_name("el_10"), written_name("ma"), written_name("prob")
    ('EL', 'MA', 'prob')
    """
    return stem(metric).upper() if stem(metric) in ABBREVIATIONS else metric


def glossary(metrics: tuple[str, ...], *, images: bool) -> tuple[Entry, ...]:
    """A sentence for each metric that was measured; those of one kind once, those of which no file is here never.

    Args:
        metrics: keys.
        images: were images measured?
    """
    found: dict[str, Entry] = {}
    for metric in metrics:
        kind = stem(metric)
        sentence = _sentence(kind, metric.removeprefix(kind).lstrip("_"), images=images)
        if sentence and kind not in found:
            name = full_name(metric)
            full = "" if name == metric else name
            found[kind] = Entry(written_name(metric), full, sentence)
    return tuple(found.values())


def _sentence(kind: str, rest: str, *, images: bool) -> str:
    """What a metric says; empty where nobody knows.

    Args:
        kind: the metric.
        rest: what options add to its key.
        images: were images measured?
    """
    words = (_OF_IMAGES if images else SENTENCES).get(kind, SENTENCES.get(kind))
    if words is not None:
        return words.format(n=rest or DEFAULT_N)
    if kind not in registry.names():
        return ""
    means = registry.load(kind).means
    return means if means[1:2].isupper() else f"{means[:1].lower()}{means[1:]}"
