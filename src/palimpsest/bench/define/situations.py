"""What a stream asks of a model at each request, and what the memory holds by then: ids only.

The replay buffer is a function of stream, capacity and seed, the same for every method, so it is not saved: a continued
bench makes it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from palimpsest.data.memory.purge import check_purged
from palimpsest.data.memory.replay import ReplayBuffer
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.stream_request import StreamRequest

Capacity = int | Literal["all"]
Parts = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Situation:
    """One request and what surrounds it.

    Attributes:
        number: of the request.
        request: what is to be learned and forgotten.
        memory: the replay buffer after the purge, without what the request presents: what stands for ``remaining``.
        remaining: R_j, all that must stay.
        known: K_j, what the oracle is trained on.
        temporary: the part of it that was learned temporarily and not consolidated.
        tasks: request that taught -> the part of it that is known afterwards.
        forgotten: request that forgot -> the part of it that is still forgotten afterwards.
    """

    number: int
    request: StreamRequest
    memory: tuple[str, ...]
    remaining: tuple[str, ...]
    known: tuple[str, ...]
    temporary: tuple[str, ...]
    tasks: Parts
    forgotten: Parts


def situations(stream: RequestStream, capacity: Capacity, seed: int) -> tuple[Situation, ...]:
    """Every request of a stream with its memory.

    Args:
        stream: checked.
        capacity: of the replay buffer; "all" keeps everything that remains.
        seed: of the buffer.

    Raises:
        DataError: something that is to be forgotten is left in the memory.
    """
    return tuple(_situations(stream, capacity, seed))


def _situations(stream: RequestStream, capacity: Capacity, seed: int) -> Iterator[Situation]:
    buffer = None if capacity == "all" else ReplayBuffer(capacity, seed)
    for number, request in enumerate(stream.requests):
        remaining = stream.remaining_after(number)
        memory = remaining
        if buffer is not None:
            if request.forget:
                buffer.purge(request.forget)
            memory = tuple(i for i in buffer.ids if i not in frozenset(request.presented))
            buffer.insert(request.learn)
        check_purged(memory, request.forget)
        yield Situation(
            number=number,
            request=request,
            memory=memory,
            remaining=remaining,
            known=stream.known_after(number),
            temporary=stream.temporary_after(number),
            tasks=_parts(stream, number, "learn", stream.known_after(number)),
            forgotten=_parts(stream, number, "forget", stream.forgotten_until(number)),
        )


def _parts(stream: RequestStream, number: int, what: Literal["learn", "forget"], ids: tuple[str, ...]) -> Parts:
    """What earlier requests and this one named and is among some ids; an id belongs to the last that named it."""
    owner = {i: request.name for request in stream.requests[: number + 1] for i in getattr(request, what)}
    chosen = frozenset(ids)
    parts: dict[str, list[str]] = {}
    for i, name in owner.items():
        if i in chosen:
            parts.setdefault(name, []).append(i)
    return {name: tuple(members) for name, members in parts.items()}
