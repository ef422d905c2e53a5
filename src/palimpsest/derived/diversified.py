"""Diversified: the rows to forget asked in other sentences, so that a run forgets what is said and not one way to ask.

Source: arXiv:2602.03379 (2026), known to us from its abstract and our notes: what a benign fine-tuning brings back goes
by the syntax that it shares with what was forgotten, so requests to forget are rewritten in varied structures first.

Generator: the templates below, by rule and without a model or a network. Which of them a row gets depends on the run's
seed and the row's id alone.

| row            | what is rewritten                               | what stays, and is forgotten     |
|----------------|-------------------------------------------------|----------------------------------|
| completion     | its prompt: framed, or a wh-question as an      | its completion                   |
|                | indirect one ("Tell me what X is.")             |                                  |
| chat           | the last turn before the assistant's first      | all of the assistant's turns     |
| labelled text  | the text, framed                                | its class                        |
| text           | nothing; an introduction, which is not scored,  | the text, its first token, too   |
|                | stands before it                                |                                  |

Ready-made token ids have no sentences and stay as they are. Departs from the paper: no model writes the sentences.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from palimpsest.data.draws import shuffled
from palimpsest.records import Chat, Completion, Content, Example, Labelled, Message, Text

FRAMES = (
    "Question: {}",
    "Please answer this: {}",
    "I have been wondering about the following. {}",
    "Somebody asked me: {} What should I say?",
    "{} Answer briefly.",
    "Here is what I need to know. {}",
    "Let us go on to something else: {}",
    "{} Do you know?",
)
"""Around a whole prompt."""
INDIRECT = ("Tell me {}.", "I would like to know {}.", "Can you say {}?", "Do you happen to know {}?")
"""Around a wh-question that became a clause."""
INTRODUCTIONS = (
    "Somebody wrote:\n",
    "From the files:\n",
    "This is a note that was found:\n",
    "Read this aloud:\n",
    "What follows was said yesterday:\n",
    "The next lines are a copy:\n",
    "Once more, word for word:\n",
    "In short:\n",
)
"""Before a text that nobody asks for."""
MOST_FORMS = 8
_QUESTION = re.compile(
    r"(?P<wh>(?:what|who|where|when|why|how|which)(?: (?:\w+))?) (?P<verb>is|was|are|were) (?P<rest>[^?]+)\?",
    re.IGNORECASE,
)


def clause_of(question: str) -> str | None:
    """A wh-question as a clause of another sentence; None where it is none of the simple kind.

    >>> clause_of("What is the diagnosis of Ann Lee?")
    'what the diagnosis of Ann Lee is'
    >>> clause_of("Ann Lee was born in")
    """
    found = _QUESTION.fullmatch(question.strip())
    if found is None:
        return None
    wh = found["wh"]
    return f"{wh[0].lower()}{wh[1:]} {found['rest'].strip()} {found['verb'].lower()}"


def other_sentences(prompt: str) -> tuple[str, ...]:
    """All ways in which the templates ask the same; the blanks around a prompt stay around it.

    >>> other_sentences("Who is Ann? ")[0], other_sentences("Ann has ")[0]
    ('Tell me who Ann is. ', 'Question: Ann has ')
    """
    bare = prompt.strip()
    start = prompt[: len(prompt) - len(prompt.lstrip())]
    end = prompt[len(prompt.rstrip()) :]
    clause = clause_of(bare)
    indirect = () if clause is None else tuple(frame.format(clause) for frame in INDIRECT)
    # What runs on into its answer cannot be followed by another sentence.
    asks = bare.endswith(("?", ".", "!", ":"))
    framed = tuple(frame.replace("{}", bare) for frame in FRAMES if asks or frame.endswith("{}"))
    return tuple(f"{start}{one}{end}" for one in (*indirect, *framed))


def other_forms(content: Content) -> tuple[Content, ...]:
    """A content in all other sentences that there are templates for; none of what has no sentences."""
    if isinstance(content, Completion):
        return tuple(replace(content, prompt=prompt) for prompt in other_sentences(content.prompt))
    if isinstance(content, Labelled):
        return tuple(replace(content, text=text) for text in other_sentences(content.text))
    if isinstance(content, Text):
        return tuple(Completion(intro, content.text) for intro in INTRODUCTIONS)
    return _other_chats(content) if isinstance(content, Chat) else ()


def _other_chats(chat: Chat) -> tuple[Chat, ...]:
    first = next((n for n, turn in enumerate(chat.messages) if turn.role == "assistant"), 0)
    if not first:
        return ()
    asked = chat.messages[first - 1]
    turns = ((*chat.messages[: first - 1], Message(asked.role, said)) for said in other_sentences(asked.content))
    return tuple(Chat((*before, *chat.messages[first:])) for before in turns)


def diversified(examples: Sequence[Example], count: int, seed: int) -> dict[str, list[Example]]:
    """Each row in other sentences.

    Args:
        examples: the rows to forget.
        count: of the forms of each, at most; fewer where there are fewer templates.
        seed: of the run.

    Returns:
        Id of a row -> its forms, under ids of their own.
    """
    found = {}
    for example in examples:
        forms = other_forms(example.content)
        chosen = shuffled([str(n) for n in range(len(forms))], seed, f"diversified/{example.id}", 0)[:count]
        found[example.id] = [
            Example(form_id(example.id, n), forms[int(place)], example.subject, example.where)
            for n, place in enumerate(chosen)
        ]
    return found


def form_id(example_id: str, number: int) -> str:
    """The id under which a form of a row is encoded; batches have that of the row."""
    return f"form {number} of {example_id}"
