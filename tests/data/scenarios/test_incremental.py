from __future__ import annotations

import pytest

from palimpsest.data.streams.scenarios.incremental import incremental
from palimpsest.data.streams.tasks import Task
from palimpsest.errors import DataError


def test_every_task_is_learned_in_its_turn_and_nothing_goes(five_tasks: tuple[Task, ...]) -> None:
    stream = incremental(five_tasks)
    assert [r.learn for r in stream.requests] == [task.ids for task in five_tasks]
    assert [r.task for r in stream.requests] == [task.name for task in five_tasks]
    assert not any(r.forget for r in stream.requests)


def test_no_task_is_no_stream() -> None:
    with pytest.raises(DataError, match="the tasks are: none"):
        incremental(())
