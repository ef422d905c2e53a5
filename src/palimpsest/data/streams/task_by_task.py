"""Tasks learned one after the other, with something unlearned in between: what several scenarios share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, KeysView, Sequence

from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.stream_request import StreamRequest
from palimpsest.data.streams.tasks import Task, pool_of
from palimpsest.errors import PlanError


def task_by_task(tasks: Sequence[Task], choose: Callable[[int, KeysView[str]], Sequence[str]]) -> RequestStream:
    """Learn each task, then forget what is chosen, if anything.

    Args:
        tasks: numbered from 1.
        choose: number of the task just learned, and all ids known by then -> ids to forget.
    """
    known: dict[str, None] = {}
    requests: list[StreamRequest] = []
    for number, task in enumerate(tasks, 1):
        requests.append(StreamRequest(f"learn {task.name}", learn=task.ids, task=task.name))
        known |= dict.fromkeys(task.ids)
        if forget := tuple(choose(number, known.keys())):
            requests.append(StreamRequest(f"unlearn after {task.name}", forget=forget))
            gone = frozenset(forget)
            known = {i: None for i in known if i not in gone}
    return RequestStream(pool_of(tasks), tuple(requests))


def check_numbers(numbers: Iterable[int], tasks: Sequence[Task]) -> None:
    """Refuse numbers of tasks that are not there.

    Raises:
        PlanError: the first of them.
    """
    for number in numbers:
        if not 1 <= number <= len(tasks):
            raise PlanError(f"unlearning after task {number}; accepted: 1 to {len(tasks)}, chosen by `after`")
