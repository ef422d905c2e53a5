from __future__ import annotations

import json

import pytest

from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.tasks import Task, split_by_class


@pytest.fixture
def five_tasks() -> tuple[Task, ...]:
    """Ten classes of six examples, two classes in a task, as CIFAR-10 is split."""
    return split_by_class({f"image-{n}": n % 10 for n in range(60)}, 2)


def keeps_the_law(stream: RequestStream) -> None:
    """Only what is known is forgotten, only what is not is learned; a stream goes through JSON."""
    known: set[str] = set()
    for number, asked in enumerate(stream.requests):
        assert set(asked.forget) <= known
        assert not known & set(asked.learn)
        known = known - set(asked.forget) | set(asked.learn)
        assert set(stream.known_after(number)) == known
        assert set(stream.remaining_after(number)) == known - set(asked.presented)
        assert not (asked.presented and asked.forget)
    assert RequestStream.from_json(json.loads(json.dumps(stream.to_json()))) == stream
