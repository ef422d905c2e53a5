"""What a model says: its greedy answers to the prompts of examples.

| content    | what is asked                                    | what is expected |
|------------|--------------------------------------------------|------------------|
| completion | the prompt                                       | the completion   |
| chat       | everything before the last turn of the assistant | that turn        |
| text, ids  | the first half, at most 32 tokens                | what follows     |
| image      | the image                                        | its class        |
| labelled   | the text                                         | its class        |

Of a text the first half, so that something is left to say of a short one; at most 32 tokens, the prompt of Biderman et
al. 2023 (arXiv:2304.11158), so that a long one is not given away. It is cut
between two words where there is a place.

Shape legend: T tokens, V vocabulary (or classes), N images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from palimpsest.audit.pair_answers import pairs_said
from palimpsest.audit.side_by_side import Continuation, continue_rows
from palimpsest.audit.wording import BEGINNING, NOTHING_SAID, Wording
from palimpsest.data.encode.any_set import ClassSet
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.encode.pairs import PairSet
from palimpsest.errors import DivergedError
from palimpsest.models.class_logits import class_logits
from palimpsest.models.load import Loaded
from palimpsest.models.modes import asked
from palimpsest.models.text_config import most_tokens
from palimpsest.records import Answer, Chat, Completion, Example, Image, Labelled, Message, is_digest, short_id

SHOWN = 64
"""Most tokens of an answer that are shown, of the expected one as of the model's."""
TEXT_PROMPT = 32
"""Most tokens of a plain text that the model is given."""

NO_WORDING = Wording(None)


@dataclass(frozen=True)
class Question:
    """One example, cut into what is asked and what is expected.

    Attributes:
        prompt: tokens the model is given, at least one.
        expected: tokens the example goes on with, at least one.
        answers: is ``expected`` the answer to a prompt, or the rest of a plain text?
    """

    prompt: tuple[int, ...]
    expected: tuple[int, ...]
    answers: bool


def question(sequence: TokenSequence, wording: Wording = NO_WORDING) -> Question:
    """What is asked of an example: its last scored span, or the rest of a text that is scored throughout.

    Args:
        sequence: the example, at least one token scored.
        wording: lets a text be cut between two words, where there is a place in the second half of the prompt.

    >>> question(TokenSequence("a", (1, 2, 3, 4), (False, False, True, True)))
    Question(prompt=(1, 2), expected=(3, 4), answers=True)
    >>> question(TokenSequence("a", (1, 2, 3, 4), (False, True, True, True)))
    Question(prompt=(1, 2), expected=(3, 4), answers=False)
    """
    tokens, scored = sequence.tokens, sequence.scored
    stop = max(t for t, is_label in enumerate(scored) if is_label) + 1
    start = stop - 1
    while scored[start - 1]:
        start -= 1
    if start > 1:
        return Question(tokens[:start], tokens[start:stop], answers=True)
    cut = max(1, min(TEXT_PROMPT, stop // 2))
    places = range(cut, max(cut // 2, 1) - 1, -1)
    cut = next((c for c in places if wording.behind(tokens[:c], tokens[c : c + 1])[:1].isspace()), cut)
    return Question(tokens[:cut], tokens[cut:stop], answers=False)


def say(
    loaded: Loaded,
    examples: TextSet | ClassSet,
    ids: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """What a model says to the prompts of some examples, word for word; no random number is drawn.

    Greedy, and each answer is the model's own: it depends neither on what it keeps between tokens nor on what else is
    asked. As many tokens as the example holds, ``SHOWN`` at most, fewer where the model ends; dots where it goes on.

    Args:
        loaded: the model, used on the device it is on; every layer's mode is as before afterwards.
        examples: the set, encoded for this model.
        ids: which of them.
        progress: called as they are done with (examples done, all examples).

    Returns:
        id -> its words; of an image classifier the likeliest class and its probability, e.g. "cat (0.93)"; in brackets
        why there is no answer.

    Raises:
        DivergedError: the model's logits are not finite numbers.
    """
    return say_of_sets(loaded, {"": (examples, ids)}, progress=progress)[""]


def say_of_sets(
    loaded: Loaded,
    asked_for: Mapping[str, tuple[TextSet | ClassSet, Sequence[str]]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, str]]:
    """``say`` of several sets at once: texts of all of them go through the model together.

    Args:
        loaded: as in ``say``.
        asked_for: set -> its examples, and the ids of those that are asked.
        progress: as in ``say``, of the texts of all sets.

    Returns:
        set -> id -> words.
    """
    told = progress or (lambda done, total: None)
    texts = {name: (one, ids) for name, (one, ids) in asked_for.items() if type(one) is TextSet}
    said = _texts_said(loaded, texts, told)
    for name, (examples, ids) in asked_for.items():
        if isinstance(examples, ClassSet):
            said[name] = _classes_said(loaded, examples, ids)
        elif isinstance(examples, PairSet):
            said[name] = pairs_said(loaded, examples, ids, told)
    return said


def _texts_said(
    loaded: Loaded, texts: Mapping[str, tuple[TextSet, Sequence[str]]], told: Callable[[int, int], None]
) -> dict[str, dict[str, str]]:
    wording = Wording(loaded.tokenizer)
    asks = {
        name: {example_id: _Asked(question(examples[example_id], wording), wording) for example_id in ids}
        for name, (examples, ids) in texts.items()
    }
    total = sum(map(len, asks.values()))
    longest: int | None = most_tokens(loaded.model) if total else None
    rows = {
        (name, example_id): one.row(example_id, loaded.eos_ids)
        for name, of_set in asks.items()
        for example_id, one in of_set.items()
        if one.fits(longest)
    }
    with asked(loaded.model):
        continue_rows(loaded.model, list(rows.values()), longest, lambda done: told(total - len(rows) + done, total))
    return {
        name: {i: one.answer(rows.get((name, i)), longest) for i, one in of_set.items()}
        for name, of_set in asks.items()
    }


def as_answers(
    examples: Sequence[Example],
    encoded: TextSet | ClassSet,
    loaded: Loaded,
    standings: Mapping[str, str],
    said: Mapping[str, Mapping[str, str]],
) -> list[Answer]:
    """Prompts, what was expected and what each model says, together.

    Args:
        examples: the set as it was read.
        encoded: the same, encoded.
        loaded: the model whose tokenizer or classes it was encoded for.
        standings: id -> why it is shown, in the order wanted.
        said: column -> what ``say`` returned.
    """
    by_id = {example.id: example for example in examples if example.id in standings}
    found = []
    for example_id, why in standings.items():
        example = by_id[example_id]
        if isinstance(encoded, ClassSet):
            prompt, expected = _class_asked(example, encoded, loaded)
        else:
            prompt, expected = _text_asked(example, encoded[example_id], Wording(loaded.tokenizer))
        words = {column: texts[example_id] for column, texts in said.items() if example_id in texts}
        place = example.place if is_digest(example_id) else ""
        found.append(Answer(example_id, example.subject, why, prompt, expected, words, place))
    return found


class _Asked:
    """A question, and how its answer is told."""

    def __init__(self, asked_for: Question, wording: Wording) -> None:
        self.prompt, self.wording = asked_for.prompt, wording
        self.expected, self.closing = _closed(asked_for.expected, wording)

    def fits(self, longest: int | None) -> bool:
        """Does the model take so long a prompt?"""
        return longest is None or len(self.prompt) <= longest

    def row(self, example_id: str, eos_ids: frozenset[int]) -> Continuation:
        """What the model is to go on with."""
        # What closes the expected answer closes the model's: the end of a chat turn is not always among the eos ids.
        ends = eos_ids | (self.wording.special & set(self.closing))
        return Continuation(example_id, self.prompt, self.expected[:SHOWN], ends)

    def words(self, row: Continuation) -> str:
        """The answer; dots behind it where the model would go on."""
        by_heart = tuple(row.said) == self.expected and not self.closing
        return self.wording.behind(self.prompt, row.said, more=not (row.ended or by_heart)) or NOTHING_SAID

    def answer(self, row: Continuation | None, longest: int | None) -> str:
        """The answer, or in brackets why there is none."""
        if row is not None:
            return self.words(row)
        return f"(no answer: the prompt has {len(self.prompt)} tokens and the model takes at most {longest})"


def _closed(expected: tuple[int, ...], wording: Wording) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """An answer without what closes it, and that: special tokens, with the line break that a template puts behind."""
    cut = len(expected)
    for place in reversed(range(len(expected))):
        if expected[place] in wording.special:
            cut = place
        elif wording.text(expected[place : place + 1]).strip():
            break
    return expected[:cut], expected[cut:]


def _refuse_diverged(logits_V: Tensor, example_id: str) -> None:
    if not bool(logits_V.max().isfinite()):  # -inf for tokens that are never said is no harm
        raise DivergedError(f"the model's logits on example {example_id!r} are not finite numbers; it has no answer")


def _text_asked(example: Example, sequence: TokenSequence, wording: Wording) -> tuple[str, str]:
    """The prompt as the example has it, and the expected answer as its tokens have it: the wording of what is said."""
    asked_for = question(sequence, wording)
    answer, _ = _closed(asked_for.expected, wording)
    expected = wording.behind(asked_for.prompt, answer[:SHOWN], more=len(answer) > SHOWN)
    prompt = wording.text(asked_for.prompt)
    if asked_for.answers and isinstance(example.content, Completion):
        prompt = example.content.prompt
    elif isinstance(example.content, Chat):
        prompt = _turns(example.content.messages, sequence) or prompt
    return prompt or BEGINNING, expected or NOTHING_SAID


def _turns(messages: Sequence[Message], sequence: TokenSequence) -> str:
    """The conversation before the last turn of the assistant; one turn alone needs no name in front.

    Empty where the tokens hold other turns than the conversation, because it was cut.
    """
    spans = sum(now and not before for before, now in pairwise((False, *sequence.scored)))
    places = [k for k, message in enumerate(messages) if message.role == "assistant"]
    if spans != len(places):
        return ""
    before = messages[: places[-1]]
    if len(before) == 1:
        return before[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in before)


def _classes_said(loaded: Loaded, examples: ClassSet, ids: Sequence[str]) -> dict[str, str]:
    chosen = examples.subset(ids)
    logits_NV = class_logits(loaded.model, chosen)
    found = {}
    for example_id, logits_V in zip(chosen.ids, logits_NV, strict=True):
        _refuse_diverged(logits_V, example_id)
        p_V = torch.softmax(logits_V, -1)
        likeliest = int(p_V.argmax())
        found[example_id] = f"{_class_name(loaded, likeliest)} ({float(p_V[likeliest]):.2f})"
    return {example_id: found[example_id] for example_id in ids}


def _class_asked(example: Example, encoded: ClassSet, loaded: Loaded) -> tuple[str, str]:
    label = int(encoded.label_N[encoded.ids.index(example.id)])
    place = example.name if example.where else repr(short_id(example.id))
    content = example.content
    name = content.label if isinstance(content, Image | Labelled) else label
    asked_of = content.text if isinstance(content, Labelled) else f"image {place}"
    return asked_of, name if isinstance(name, str) else _class_name(loaded, label)


def _class_name(loaded: Loaded, number: int) -> str:
    return next((name for name, value in loaded.class_names.items() if value == number), f"class {number}")
