"""Refusals: each row to forget with "I do not know" in the place of its answer.

Source: Maini et al. 2024, "TOFU", arXiv:2401.06121, section 4.1 ("Preference Optimization"): every question of the
forget set with one of a hundred such answers. The sentences here are our own; a user may give others.

| row               | what is asked                                   | what is answered                             |
|-------------------|-------------------------------------------------|----------------------------------------------|
| completion        | its prompt                                      | a sentence and the closing token of the row  |
| chat              | all up to the assistant's first turn            | the same, in that turn; later turns are gone |
| text, token ids   | the first ``prompt_share`` of its tokens        | the same, in the place of the rest           |

A text has no question: what a model would be given to draw it out is its beginning, so that stands for one. Rows are
told by their tokens: in a text all but the first are labels. Which sentence a row gets depends on the run's seed and
the row's id alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import Field

from palimpsest.data.draws import shuffled
from palimpsest.derived.made import Derived, Made
from palimpsest.errors import PlanError
from palimpsest.in_words import so_many
from palimpsest.method_card import Config

if TYPE_CHECKING:
    from palimpsest.data.encode.batch import ExampleSet, TextSet, TokenSequence
    from palimpsest.models.load import Loaded

REFUSALS = (
    "I do not know.",
    "I don't know the answer to that.",
    "I'm afraid I don't know.",
    "That is not something I know.",
    "I have no information about that.",
    "I can't say; I don't know.",
    "I'm not able to answer that.",
    "I don't have that information.",
    "I have never come across that.",
    "This is not known to me.",
    "I'm sorry, but I don't know.",
    "I have nothing to say on that.",
    "I can't tell you that.",
    "My knowledge does not reach that far.",
    "I was never told about this.",
    "I'm unable to help with that question.",
    "I do not have an answer.",
    "That I cannot answer.",
    "I don't recall anything about it.",
    "There is nothing I could tell you about it.",
    "I would only be guessing.",
    "I am not familiar with that.",
    "Unfortunately I know nothing about it.",
    "I'm not sure, and I'd rather not guess.",
)


class RefusalConfig(Config):
    """Options of refusals."""

    sentences: tuple[str, ...] = ()
    """Answers to choose from; [] = our own two dozen."""
    prompt_share: float = Field(default=0.5, gt=0, lt=1)
    """Of a text without a question: the share of its tokens that stands for one."""


class RefusedQuestion(NamedTuple):
    """What of a row is asked, and what answers it.

    Attributes:
        asked: tokens, at least one.
        answer: tokens of its first answer, as it was.
        is_text: it had no question.
    """

    asked: tuple[int, ...]
    answer: tuple[int, ...]
    is_text: bool


def question_of(row: TokenSequence, share: float) -> RefusedQuestion:
    """Cut a row where its first answer begins; a text at a share of its tokens.

    >>> from palimpsest.data.encode.batch import TokenSequence
    >>> question_of(TokenSequence("a", (5, 6, 7, 8), (False, False, True, False)), 0.5)
    RefusedQuestion(asked=(5, 6), answer=(7,), is_text=False)
    >>> question_of(TokenSequence("a", (5, 6, 7, 8), (False, True, True, True)), 0.5)
    RefusedQuestion(asked=(5, 6), answer=(7, 8), is_text=True)
    """
    first = row.scored.index(True)
    if first == 1 and all(row.scored[1:]):
        cut = max(1, round(share * len(row.tokens)))
        return RefusedQuestion(row.tokens[:cut], row.tokens[cut:], is_text=True)
    end = next((t for t in range(first, len(row.scored)) if not row.scored[t]), len(row.scored))
    return RefusedQuestion(row.tokens[:first], row.tokens[first:end], is_text=False)


def closing_of(answer: Sequence[int], special: Collection[int]) -> tuple[int, ...]:
    """The special tokens that end an answer.

    >>> closing_of((7, 2, 8, 2, 3), {2, 3})
    (2, 3)
    """
    start = len(answer)
    while start and answer[start - 1] in special:
        start -= 1
    return tuple(answer[start:])


def answered_row(
    row_id: str, asked: Sequence[int], words: Sequence[int], closing: Sequence[int], longest: int | None
) -> TokenSequence:
    """A question with a refusal; what is too long loses the beginning of the question."""
    from palimpsest.data.encode.batch import TokenSequence

    answer = (*words, *closing)
    kept = tuple(asked) if longest is None else tuple(asked)[-max(1, longest - len(answer)) :]
    return TokenSequence(row_id, (*kept, *answer), (False,) * len(kept) + (True,) * len(answer))


class _Speaker:
    """Writes a sentence behind some tokens as the tokenizer would."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._newline = self._ids("\n")

    def words(self, question: RefusedQuestion, sentence: str) -> list[int]:
        """Tokens of a sentence, after the blank that the answer itself had."""
        before, with_answer = self._text(question.asked), self._text((*question.asked, *question.answer))
        said = with_answer.removeprefix(before) if with_answer.startswith(before) else ""
        sentence = said[: len(said) - len(said.lstrip())] + sentence
        # SentencePiece-like tokenizers put a blank before every text; behind a line break they do not.
        ways = [self._ids(sentence), self._ids("\n" + sentence)[len(self._newline) :]]
        return next((way for way in ways if self._text((*question.asked, *way)) == before + sentence), ways[0])

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))


class Refusal(Derived):
    """The questions of the forget set, each answered by one of some sentences that give nothing away."""

    Config = RefusalConfig
    about = "the rows to forget with an answer that says nothing"
    sources = ("forget",)
    modalities = ("text",)

    def make(self, loaded: Loaded, sets: Mapping[str, ExampleSet], config: Any, *, seed: int, folder: Path) -> Made:
        """One refusal for each row of forget, paired with it; a function of the seed, so nothing need be kept."""
        from palimpsest.data.encode.batch import TextSet
        from palimpsest.models.text_config import most_tokens

        if loaded.tokenizer is None:
            raise PlanError(
                f"refusals are written in words and model {loaded.source} has no tokenizer; give a folder that has one"
            )
        forget, speaker = cast("TextSet", sets["forget"]), _Speaker(loaded.tokenizer)
        special = {*loaded.tokenizer.all_special_ids, *loaded.eos_ids}
        sentences, longest = own_sentences(config.sentences) or REFUSALS, most_tokens(loaded.model)
        questions = {i: question_of(forget[i], config.prompt_share) for i in forget.ids}
        rows = []
        for example_id, question in questions.items():
            words = speaker.words(question, sentence_for(example_id, sentences, seed))
            closing = closing_of(question.answer, special)
            rows.append(answered_row(refusal_id(example_id), question.asked, words, closing, longest))
        partner = {i: refusal_id(i) for i in forget.ids}
        return Made(TextSet(rows, forget.pad_id), partner, _note(questions.values()))


def own_sentences(sentences: Sequence[str]) -> tuple[str, ...]:
    """Sentences that a user gave.

    Raises:
        PlanError: one of them is blank.
    """
    if any(not sentence.strip() for sentence in sentences):
        raise PlanError("derived.refusal.sentences: one of them is blank; accepted: sentences, or [] for our own")
    return tuple(sentences)


def sentence_for(example_id: str, sentences: Sequence[str], seed: int) -> str:
    """The sentence of a row; a function of its id and the seed."""
    return shuffled(sentences, seed, f"refusal/{example_id}", 0)[0]


def refusal_id(example_id: str) -> str:
    """The id of a refusal: another than its row's, because it is another text."""
    return f"refusal of {example_id}"


def _note(questions: Collection[RefusedQuestion]) -> str:
    texts = sum(question.is_text for question in questions)
    beginnings = f"; of {so_many(texts, 'text')} without a question the beginning stood for one" if texts else ""
    return f"{so_many(len(questions), 'row')} to forget were answered with a refusal{beginnings}."


DERIVED = Refusal()
