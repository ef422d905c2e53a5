"""What the metrics are: their full names, and a sentence each for readers who do not know the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FULL_NAMES = {
    "es": "extraction strength",
    "ma": "memorization accuracy",
    "el": "extraction likelihood",
    "em": "exact memorization",
    "prob": "answer probability",
    "ppl": "perplexity",
}
ABBREVIATIONS = {"es", "ma", "el", "em"}
SENTENCES: Mapping[str, str] = {
    "es": "the share of an answer that the model need not be shown, because it knows how it ends. 1.00 is by heart.",
    "ma": (
        "the share of its tokens (words and pieces of words) that the model would write next, each time shown all that "
        "comes before. Grammar and common phrases alone give a good part of it."
    ),
    "el": "the share of runs of {n} tokens that come back literally when the model goes on by itself.",
    "em": "the same as MA over the answer alone, without the mark that ends it.",
    "prob": "how likely the model finds each token of the answer, on average.",
    "ppl": "among how many tokens the model hesitates, on average, when it reads on: 1.00 is certain, more is worse.",
    "accuracy": "the share of answers that are right to the last token.",
}
_OF_IMAGES: Mapping[str, str] = {
    "prob": "how likely the model finds the class that the image has.",
    "accuracy": "the share of images whose class the model names.",
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
    return FULL_NAMES.get(metric.partition("_")[0], metric)


def written_name(metric: str) -> str:
    """A metric as prose has it.

    >>> written_name("el_10"), written_name("ma"), written_name("prob")
    ('EL', 'MA', 'prob')
    """
    stem = metric.partition("_")[0]
    return stem.upper() if stem in ABBREVIATIONS else metric


def glossary(metrics: tuple[str, ...], *, images: bool) -> tuple[Entry, ...]:
    """A sentence for each metric that was measured; those of one kind once, unknown ones never.

    Args:
        metrics: keys.
        images: were images measured?
    """
    found: dict[str, Entry] = {}
    for metric in metrics:
        stem, _, rest = metric.partition("_")
        sentence = (_OF_IMAGES if images else SENTENCES).get(stem, SENTENCES.get(stem))
        if sentence is not None and stem not in found:
            name = full_name(metric)
            full = "" if name == metric else name
            found[stem] = Entry(written_name(metric), full, sentence.format(n=rest or DEFAULT_N))
    return tuple(found.values())
