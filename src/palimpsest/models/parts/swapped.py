"""Questions with the answers of other rows, and how likely a model finds answers."""

from __future__ import annotations

from typing import cast

from torch import nn

from palimpsest.data.encode.batch import ExampleSet, TextSet, TokenSequence
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked

_ROWS = 16  # in a pass


def rows_of_set(examples: ExampleSet) -> list[tuple[int, ...]]:
    """Tokens of every row, by id."""
    plain = cast(TextSet, examples.plain())
    return [plain[example_id].tokens for example_id in sorted(plain.ids)]


def with_answers_of_others(questions: ExampleSet, answers: ExampleSet) -> TextSet:
    """Each question with what another row answers, in turn; of a text half stands for a question.

    Args:
        questions: their ids stay.
        answers: whose answers are given, by id.
    """
    asking, answering = cast(TextSet, questions.plain()), cast(TextSet, answers.plain())
    others = [answering[example_id] for example_id in sorted(answering.ids)]
    rows = [
        answered_by(asking[example_id], others[number % len(others)])
        for number, example_id in enumerate(sorted(asking.ids))
    ]
    return TextSet(rows, asking.pad_id)


def answered_by(question: TokenSequence, other: TokenSequence) -> TokenSequence:
    """A question with another row's answer.

    >>> other = TokenSequence("b", (8, 9), (False, True))
    >>> row = answered_by(TokenSequence("a", (5, 6, 7), (False, False, True)), other)
    >>> row.tokens, row.scored
    ((5, 6, 9), (False, False, True))
    """
    asks, answer = question.tokens[: _cut(question)], other.tokens[_cut(other) :]
    return TokenSequence(question.id, (*asks, *answer), (False,) * len(asks) + (True,) * len(answer))


def _cut(row: TokenSequence) -> int:
    """Where the first answer begins; a text is cut in the middle."""
    first = row.scored.index(True)
    return max(1, len(row.tokens) // 2) if first == 1 and all(row.scored[1:]) else first


def mean_logp(model: nn.Module, examples: ExampleSet) -> float:
    """Mean log-probability of the label tokens, every row weighing the same, nats."""
    found: list[float] = []
    with asked(model):
        for batch in in_passes(model, examples.plain(), _ROWS, sorted(examples.ids)):
            found += (-batch.predict(model).nll_B).tolist()
    return sum(found) / len(found)
