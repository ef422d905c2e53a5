"""A toy of three topics that a T5, a BERT and a Llama classifier tell: two words of a topic among fillers."""

from __future__ import annotations

import random
from typing import Any

import torch
from tests.models.small_texts import classifier, t5

from palimpsest.data.encode.batch import TokenSequence
from palimpsest.data.encode.labelled import LabelSet
from palimpsest.data.encode.pairs import PairSet
from palimpsest.models.families import of_model

TOPICS, WORDS, FIRST, FILLERS = 3, 4, 5, range(17, 26)
KINDS = ("t5", "bert", "llama")


def new_model(kind: str) -> Any:
    """It has learned nothing."""
    return (t5() if kind == "t5" else classifier(kind)).eval()


def toy_set(kind: str, name: str, count: int, topics: range = range(TOPICS), *, replaced: bool = False) -> Any:
    """Rows of the topics in turn; ``replaced``: the same rows with fillers in the place of the topic's words."""
    drawn, rows, labels = random.Random(count), [], []
    for number in range(count):
        topic = topics[number % len(topics)]
        own = [FIRST + WORDS * topic + drawn.randrange(WORDS) for _ in range(2)]
        others, instead = drawn.choices(FILLERS, k=2 + number // TOPICS % 3), drawn.choices(FILLERS, k=2)
        words = [*(instead if replaced else own), *others]
        random.Random(number).shuffle(words)
        rows.append(_row(kind, f"{name}{number}", words, topic))
        labels.append(topic)
    if kind == "t5":
        return PairSet(rows, 0, 0)
    return LabelSet(tuple(rows), torch.tensor(labels), 0, "first" if kind == "bert" else "last")


def _row(kind: str, name: str, words: list[int], topic: int) -> TokenSequence:
    """T5 writes the topic; the others are asked for it."""
    text = [3, *words, 4] if kind == "bert" else [*words, 1]
    answer = [26 + topic, 1] if kind == "t5" else []
    return TokenSequence(name, (*text, *answer), (False,) * len(text) + (True,) * len(answer))


@torch.no_grad()
def right_of(model: Any, examples: Any) -> list[float]:
    """Mean probability of what is right, at the first scored position, of each topic; rows are of them in turn."""
    said = examples.batch(examples.ids).predict(model.eval())
    first = said.logp_S[:: len(said.logp_S) // len(examples)].exp()
    assert of_model(model).name in ("seq2seq", "text_classifier")
    return [float(first[topic::TOPICS].mean()) for topic in range(TOPICS)]
