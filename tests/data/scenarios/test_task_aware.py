from __future__ import annotations

from collections.abc import Sequence

import pytest

from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.scenarios.task_aware import task_aware
from palimpsest.data.streams.tasks import Task
from palimpsest.errors import PlanError


def held(five_tasks: Sequence[Task], ids: Sequence[str]) -> str:
    """Numbers of the tasks that ids are exactly made of."""
    numbers = [n for n, task in enumerate(five_tasks) if set(task.ids) & set(ids)]
    assert set(ids) == {i for n in numbers for i in five_tasks[n].ids}
    return "".join(map(str, numbers))


def test_the_published_sequence(five_tasks: tuple[Task, ...]) -> None:
    stream = task_aware(five_tasks)
    assert [request.name for request in stream.requests] == ["0R", "1T", "2T", "3R", "1R", "2F", "4T", "4F"]
    assert [held(five_tasks, r.learn) for r in stream.requests] == ["0", "1", "2", "3", "", "", "4", ""]
    assert [held(five_tasks, r.consolidate) for r in stream.requests] == ["", "", "", "", "1", "", "", ""]
    assert [held(five_tasks, r.forget) for r in stream.requests] == ["", "", "", "", "", "2", "", "4"]
    assert "".join(r.kind for r in stream.requests if r.presented) == "RTTRRT"
    known = [held(five_tasks, stream.known_after(j)) for j in range(8)]
    assert known == ["0", "01", "012", "0123", "0123", "013", "0134", "013"]
    remaining = [held(five_tasks, stream.remaining_after(j)) for j in range(8)]
    assert remaining == ["", "0", "01", "012", "023", "013", "013", "013"]
    assert [held(five_tasks, stream.temporary_after(j)) for j in range(8)] == ["", "1", "12", "12", "2", "", "4", ""]
    assert [request.task for request in stream.requests[:2]] == ["0+1", "2+3"]
    assert RequestStream.from_json(stream.to_json()) == stream


def test_a_forgotten_task_may_come_back(five_tasks: tuple[Task, ...]) -> None:
    stream = task_aware(five_tasks[:1], "0T 0F 0T 0F 0R")
    assert [request.name for request in stream.requests] == ["0T", "0F", "0T-2", "0F-2", "0R"]
    assert stream.known_after(4) == five_tasks[0].ids


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("0R 5T", "request '5T'; accepted: a task from 0 to 4 and R, T or F, such as '0R'"),
        ("0R 1X", "request '1X'; accepted"),
        ("0R1T", "request '0R1T'; accepted"),
        ("0R 0F", "request 1 is '0F', when task 0 is held for good; accepted: no further request about this task"),
        ("0R 0R", "request 1 is '0R', when task 0 is held for good"),
        ("0T 0T", "request 1 is '0T', when task 0 is held temporarily; accepted: 0R or 0F"),
        ("0T 0R 0F", "request 2 is '0F', when task 0 is held for good"),
        ("1F", "request 0 is '1F', when task 1 is not held; accepted: 1R or 1T"),
    ],
)
def test_sequences_that_make_no_sense_are_refused(five_tasks: tuple[Task, ...], sequence: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        task_aware(five_tasks, sequence)


def test_the_published_sequence_needs_five_tasks(five_tasks: tuple[Task, ...]) -> None:
    with pytest.raises(PlanError, match="request '4T'; accepted: a task from 0 to 3"):
        task_aware(five_tasks[:4])
