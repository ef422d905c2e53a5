"""Request streams: what a model is asked to learn and to forget, in order, over a pool of example ids.

Request j presents L_j, to learn, and U_j, to forget. With K_j what the model is to know after it, K_{-1} = {}:

    U_j ⊆ K_{j-1}      R_j = K_{j-1} − U_j − L_j  (to preserve)      K_j = R_j ∪ L_j  (the oracle's data)

The request model of continual learning and unlearning; L_j meets K_{j-1} only where a request consolidates: it presents
again, for good, what was learned temporarily before (as in CLPU, Liu, Liu, Stone 2022). What was forgotten may be
learned again later. Streams are made of ids alone, so text and images share them; ``data/scenarios`` builds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from pydantic import ConfigDict

from palimpsest.data.saved_json import restored
from palimpsest.data.streams.stream_request import StreamRequest, some_of
from palimpsest.errors import DataError


@dataclass(frozen=True)
class _Moment:
    """Where a stream stands after a request."""

    learned: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    temporary: frozenset[str] = frozenset()

    def after(self, request: StreamRequest) -> _Moment:
        known = (self.known - set(request.forget)) | set(request.learn)
        new = request.learn if request.kind == "T" else ()
        temporary = (self.temporary & known) - set(request.consolidate) | set(new)
        return _Moment(self.learned | set(request.learn), known, temporary)


@dataclass(frozen=True)
class RequestStream:
    """Requests over a pool, checked when it is made: forgotten is only what is known, learned only what is not.

    Attributes:
        pool: ids of all examples that requests may name; the order of every answer.
        requests: one after the other, numbered from 0.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    pool: tuple[str, ...]
    requests: tuple[StreamRequest, ...]

    def __post_init__(self) -> None:
        if len(set(self.pool)) < len(self.pool):
            raise DataError(
                f"{len(self.pool) - len(set(self.pool))} ids of the pool are repeated; accepted: each id once"
            )
        if not self.requests:
            raise DataError("a stream without requests; accepted: at least one")
        names: set[str] = set()
        pool, moment = frozenset(self.pool), _Moment()
        for number, request in enumerate(self.requests):
            problems = list(_problems(request, moment, pool))
            if request.name in names:
                problems.append("an earlier request has this name; accepted: names that occur once")
            if problems:
                raise DataError(f"request {number} ({request.name!r}): {'; '.join(problems)}")
            names.add(request.name)
            moment = moment.after(request)

    def __len__(self) -> int:
        return len(self.requests)

    @cached_property
    def _moments(self) -> tuple[_Moment, ...]:
        moments = [_Moment()]
        for request in self.requests:
            moments.append(moments[-1].after(request))
        return tuple(moments[1:])

    def known_after(self, j: int) -> tuple[str, ...]:
        """K_j: all that a model is to know after request j, which is what the oracle of j is trained on."""
        return self._ordered(self._at(j).known)

    def remaining_after(self, j: int) -> tuple[str, ...]:
        """R_j: what was known before request j and is neither forgotten nor presented by it."""
        return self._ordered(self._at(j).known - set(self.requests[j].presented))

    def temporary_after(self, j: int) -> tuple[str, ...]:
        """The part of K_j that was learned temporarily and not consolidated since."""
        return self._ordered(self._at(j).temporary)

    def forgotten_until(self, j: int) -> tuple[str, ...]:
        """All that requests 0 to j forgot and that was not learned again until then."""
        return self._ordered(self._at(j).learned - self._at(j).known)

    def _at(self, j: int) -> _Moment:
        if not 0 <= j < len(self):
            raise DataError(f"request {j} of a stream of {len(self)}; accepted: 0 to {len(self) - 1}")
        return self._moments[j]

    def _ordered(self, ids: frozenset[str]) -> tuple[str, ...]:
        return tuple(i for i in self.pool if i in ids)

    def describe(self) -> str:
        """A table in plain text: one line per request, with the sizes of its sets.

        >>> requests = (StreamRequest("0R", ("a", "b")), StreamRequest("0F", forget=("a",)))
        >>> print(RequestStream(("a", "b"), requests).describe())
        # request kind task learn consolidate forget remaining known
        0 0R      R    -        2           0      0         0     2
        1 0F      -    -        0           0      1         1     1
        """
        rows: list[tuple[str, ...]] = [
            ("#", "request", "kind", "task", "learn", "consolidate", "forget", "remaining", "known")
        ]
        for j, request in enumerate(self.requests):
            sizes = map(len, (request.learn, request.consolidate, request.forget, self.remaining_after(j)))
            kind = request.kind if request.presented else "-"
            known = len(self.known_after(j))
            rows.append((str(j), request.name, kind, request.task or "-", *map(str, sizes), str(known)))
        return _table(rows, left=(1, 2, 3))

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RequestStream:
        """Inverse of ``to_json``, with all checks.

        Raises:
            DataError: the values are not those of a stream, or break its rules.
        """
        return restored(cls, value, "a request stream")


def _problems(request: StreamRequest, before: _Moment, pool: frozenset[str]) -> Iterator[str]:
    """What is wrong with a request at its place in a stream."""
    learn, consolidate, forget = request.learn, request.consolidate, request.forget
    lasting = frozenset(consolidate) - before.temporary
    checks = (
        (learn, frozenset(learn) - pool, "to learn are not in the pool", "ids of the pool"),
        (learn, before.known, "to learn are known already", "unknown ones (or consolidate)"),
        (
            consolidate,
            lasting,
            "to consolidate are not known temporarily",
            "ids learned with kind 'T' and not forgotten",
        ),
        (forget, frozenset(forget) - before.learned, "to forget were never learned", "ids of earlier requests"),
        (forget, before.learned - before.known, "to forget were forgotten before", "ids still known"),
    )
    for ids, refused, what, accepted in checks:
        if wrong := [i for i in ids if i in refused]:
            yield f"{some_of(wrong, ids, what)}; accepted: {accepted}"


def _table(rows: Sequence[tuple[str, ...]], *, left: Sequence[int]) -> str:
    """Columns of equal width, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [
        [cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return "\n".join(" ".join(row).rstrip() for row in cells)
