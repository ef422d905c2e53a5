"""What every request finds: memory without what is forgotten, tasks and forget sets that add up."""

from __future__ import annotations

import pytest

from palimpsest.bench.define.situations import situations
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.stream_request import StreamRequest


def ids(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{n}" for n in range(count))


@pytest.fixture
def stream() -> RequestStream:
    a, b = ids("a", 10), ids("b", 10)
    requests = (
        StreamRequest("0", learn=a),
        StreamRequest("1", learn=b[:5], forget=a[:4]),
        StreamRequest("2", learn=b[5:]),
        StreamRequest("3", forget=(*a[4:6], *b[:2])),
        StreamRequest("4", learn=a[:2]),
    )
    return RequestStream((*a, *b), requests)


@pytest.mark.parametrize("seed", range(5))
def test_the_memory_never_holds_what_was_forgotten(stream, seed):
    for situation in situations(stream, 6, seed):
        known_before = set(situation.remaining)
        assert set(situation.memory) <= known_before
        assert not set(situation.memory) & set(situation.request.forget)
        assert len(situation.memory) <= 6


def test_a_full_memory_is_all_that_remains(stream):
    assert all(s.memory == s.remaining for s in situations(stream, "all", 0))


def test_tasks_and_forget_sets_are_all_there_is(stream):
    for number, situation in enumerate(situations(stream, 6, 0)):
        assert sorted(i for part in situation.tasks.values() for i in part) == sorted(situation.known)
        gone = [i for part in situation.forgotten.values() for i in part]
        assert sorted(gone) == sorted(stream.forgotten_until(number))


def test_an_example_learned_again_changes_its_task(stream):
    last = situations(stream, 6, 0)[-1]
    assert last.tasks["4"] == ("a0", "a1")
    assert last.forgotten["1"] == ("a2", "a3")


def test_same_seed_same_memory(stream):
    memories = [[s.memory for s in situations(stream, 4, seed)] for seed in (0, 0, 1)]
    assert memories[0] == memories[1] != memories[2]
