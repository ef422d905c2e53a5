"""Frozen values that cross layers. Nothing here computes, reads files or imports torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text: every token after the first is scored."""

    text: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt and the completion that answers it: the completion is scored."""

    prompt: str
    completion: str


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation: the assistant's turns are scored."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Ready-made token ids, taken as they are: every token after the first is scored."""

    input_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """An image and its class: the class is scored.

    Attributes:
        pixels: uint8, row by row, the channels of a pixel side by side.
        shape: height, width, channels.
        label: number of the class, or its name, which the model must know.
        task: the task it belongs to, if known; no part of the content's id.
        spelled: its class as its source writes it (the name of a folder, or of a number in a dataset), which a model
            is asked for before the number; no part of the content's id either.
    """

    pixels: bytes = field(repr=False)
    shape: tuple[int, int, int]
    label: int | str
    task: int | str | None = None
    spelled: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its class: the class is scored.

    Attributes:
        text: what is read.
        label: number of the class, or its name, which the model must know.
    """

    text: str
    label: int | str


Content = Text | Completion | Chat | TokenIds | Image | Labelled


@dataclass(frozen=True, slots=True)
class Example:
    """One training item with a stable id.

    Attributes:
        id: given by the user, or the SHA-256 of the canonical content (``content_id``).
        content: what is learned or forgotten.
        subject: whose data it is, if known.
        where: the place it was read from, e.g. "people.jsonl, line 3"; no part of what it is.
    """

    id: str
    content: Content
    subject: str | None = None
    where: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """What a message calls it: its place, and its id unless that is a digest.

        >>> Example("p1", Text("a"), where="people.jsonl, line 3").name
        "people.jsonl, line 3 (id 'p1')"
        """
        if not self.where:
            return f"example {self.id!r}"
        derived = is_digest(self.id) and self.id == content_id(self.content)
        return self.where if derived else f"{self.where} (id {self.id!r})"

    @property
    def place(self) -> str:
        """Its place, short enough for a table; "" where it is not known.

        >>> Example("p1", Text("a"), where="data/people.csv, line 26").place
        'people.csv:26'
        >>> Example("p1", Text("a"), where="the list given as forget, row 3").place
        'forget:3'
        """
        origin, _, number = self.where.rpartition(", ")
        digits = number.rpartition(" ")[2]
        return f"{PurePath(origin.rpartition(' given as ')[2]).name}:{digits}" if origin and digits.isdecimal() else ""


def content_id(content: Content) -> str:
    """SHA-256 of the canonical JSON of a content, as 64 hexadecimal digits; of an image its pixels count by their own.

    >>> content_id(Text("a"))[:8]
    '5dfd7f27'
    """
    if isinstance(content, Image):
        pixels = hashlib.sha256(content.pixels).hexdigest()
        return digest({"kind": "Image", "label": content.label, "pixels": pixels, "shape": content.shape})
    fields = {name: getattr(content, name) for name in content.__slots__}
    return digest({"kind": type(content).__name__, **fields})


def short_id(example_id: str) -> str:
    """An id as a person reads it: of a digest the first eight digits.

    >>> short_id("k018"), short_id("0f" * 32)
    ('k018', '0f0f0f0f..')
    """
    return f"{example_id[:8]}.." if is_digest(example_id) else example_id


def is_digest(example_id: str) -> bool:
    """Is an id one that was derived from a content, and no name that anybody gave?"""
    return len(example_id) == 64 and set(example_id) <= set("0123456789abcdef")


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form: sorted keys, UTF-8, no blanks.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class Direction(StrEnum):
    """Which way a metric points."""

    HIGHER = "higher is more known"
    LOWER = "lower is more known"
    NEITHER = "to be compared, neither way is more known"


@dataclass(frozen=True, slots=True)
class Score:
    """One metric on one set of examples.

    Attributes:
        metric: its key, options included when they differ from the default name, e.g. ``"el_10"``.
        value: the aggregate, or None when no example could be scored.
        low: lower end of the confidence interval, or None when n < 2.
        high: upper end of it.
        n: examples that were scored.
        unscored: examples that could not be scored; they never count as 0.
        direction: which way it points.
        unit: e.g. ``"share of tokens"``.
        version: of the metric's definition; scores of different versions are not comparable.
        by_id: per-example value, None where unscored.
        why: why nothing could be scored, where the reason holds for all examples; else "".
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    unscored: int
    direction: Direction
    unit: str
    version: int
    by_id: Mapping[str, float | None] = field(default_factory=dict)
    why: str = ""


class ProbedClass(NamedTuple):
    """What a linear probe on what enters the head finds of one class, on rows that it was not fitted to.

    Attributes:
        recall: share of the rows of the class that it calls so; None where there are too few to fit it to.
        false: share of the others that it calls so.
        rows: of the class that it was asked of.
        others: of all else.
    """

    recall: float | None
    false: float | None
    rows: int
    others: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What models say to one prompt, greedily.

    Attributes:
        id: of the example.
        subject: whose data it is, if known.
        standing: why it is shown: "worst" (still most known after the run), "median" or "best"; "kept": of what
            stays the least known; "" in a plain list.
        prompt: what the model was asked.
        expected: what the example holds in its place.
        said: "before", "after", "oracle" -> the model's own words, as many tokens as expected at most.
        place: of the example, such as "people.csv:26"; "" where it is not known.
    """

    id: str
    subject: str | None
    standing: str
    prompt: str
    expected: str
    said: Mapping[str, str]
    place: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a piece of work cost.

    Attributes:
        seconds: wall-clock time of the work itself, model loading apart.
        tokens: token positions that went through the model, forward passes only counted once.
        peak_bytes: highest memory in use: the accelerator's allocator where there is one, else resident set size.
    """

    seconds: float
    tokens: int
    peak_bytes: int


class Outcome(StrEnum):
    """What gates say of a model."""

    PASSED = "passed"
    AS_SERVED = "passed as served"  # with a part that hides what the weights still know
    FAILED = "failed"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate held against the scores: its sentence and what came out."""

    gate: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All gates together.

    Attributes:
        outcome: of all of them.
        sentence: which gates it rests on.
        gates: one by one.
        plain: the same for people who read no gates.
    """

    outcome: Outcome
    sentence: str
    gates: tuple[GateResult, ...]
    plain: str = ""
