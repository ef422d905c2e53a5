"""One request of a stream: what to learn, what to keep for good, what to forget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from palimpsest.errors import DataError, unknown

_KINDS = ("R", "T")


@dataclass(frozen=True)
class StreamRequest:
    """One request to learn, to forget, or both.

    Attributes:
        name: of the request, unique in its stream.
        learn: ids to learn that the model does not know.
        consolidate: ids known temporarily, presented again to be kept for good.
        forget: ids to forget.
        kind: "R", what is learned is to be retained for good; "T", it is learned temporarily.
        task: the task that it is about, if it is about one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    learn: tuple[str, ...] = ()
    consolidate: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    kind: Literal["R", "T"] = "R"
    task: str | None = None

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise DataError(f"request {self.name!r}: {'; '.join(problems)}")

    @property
    def presented(self) -> tuple[str, ...]:
        """All that a method is given to learn: the new and the consolidated."""
        return self.learn + self.consolidate

    def _problems(self) -> Iterator[str]:
        if self.kind not in _KINDS:
            yield unknown("kind of learning", self.kind, _KINDS)
        if not self.presented + self.forget:
            yield "it is empty; accepted: at least one id to learn, to consolidate or to forget"
        if self.consolidate and self.kind == "T":
            yield "it consolidates temporarily; accepted: kind 'R', because consolidating means to keep for good"
        parts = {"learn": self.learn, "consolidate": self.consolidate, "forget": self.forget}
        owner: dict[str, str] = {}
        for part, ids in parts.items():
            clashes = [i for i in ids if owner.setdefault(i, part) != part]
            if clashes:
                what = f"to {part} are to {owner[clashes[0]]} too"
                yield f"{some_of(clashes, ids, what)}; accepted: each id in one list"
            if len(set(ids)) < len(ids):
                yield f"{len(ids) - len(set(ids))} ids to {part} are repeated; accepted: each id once"


def some_of(ids: list[str], out_of: tuple[str, ...], what: str) -> str:
    """A clause of an error about some of a request's ids.

    >>> some_of(["a"], ("a", "b"), "to learn are known already")
    "1 of 2 ids to learn are known already (first: 'a')"
    """
    return f"{len(ids)} of {len(out_of)} ids {what} (first: {ids[0]!r})"
