"""Tasks learned one after the other, with single classes or random samples unlearned in between.

Source: the scenarios "cross-task category" and "random samples" are named in UG-CLU, arXiv:2505.15178. After which
tasks it unlearns, and how much, could not be found out: the defaults are our protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, KeysView, Mapping, Sequence

from palimpsest.data.draws import shuffled
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.stream_request import StreamRequest
from palimpsest.data.streams.tasks import Task, pool_of
from palimpsest.errors import DataError, PlanError, unknown


def incremental(tasks: Sequence[Task]) -> RequestStream:
    """Learn task by task, forget nothing."""
    return _task_by_task(tasks, lambda number, known: ())


def cross_task_category(
    tasks: Sequence[Task], *, seed: int, after: Sequence[int] | None = None, num_tasks: int = 2
) -> RequestStream:
    """Now and then unlearn a random class of each of several tasks learned so far, the last one included.

    Args:
        tasks: numbered from 1.
        seed: of the choice.
        after: numbers of the tasks after which to unlearn; None = those of 2 and 4 that are there.
        num_tasks: different tasks that lose one class each time, >= 1.

    Raises:
        DataError: fewer tasks than that still have a class by then.
        PlanError: ``after`` names a task that is not there, or no task is to lose a class.
    """
    if after is None:
        after = tuple(number for number in (2, 4) if number <= len(tasks)) or (len(tasks),)
    _check_numbers(after, tasks)
    if num_tasks < 1:
        raise PlanError(f"{num_tasks} tasks to lose a class; accepted: 1 or more")

    def choose(number: int, known: KeysView[str]) -> list[str]:
        if number not in after:
            return []
        having = {task.name: task for task in tasks if not known.isdisjoint(task.ids)}
        if len(having) < num_tasks:
            problem = f"after task {number}, {len(having)} tasks still have a class and {num_tasks} are to lose one"
            raise DataError(f"{problem}; accepted: at most {len(having)} here, or a later task")
        losers = shuffled(list(having), seed, "category/tasks", number)[:num_tasks]
        return [i for name in losers for i in _random_class(having[name], known, seed, number)]

    return _task_by_task(tasks, choose)


def chosen_categories(tasks: Sequence[Task], chosen: Mapping[int, Sequence[tuple[str, str]]]) -> RequestStream:
    """Unlearn given classes after given tasks.

    Args:
        tasks: numbered from 1.
        chosen: number of a task -> pairs of a task's name and its class, to unlearn after it.

    Raises:
        DataError: a task or class that does not exist, or is not known by then.
        PlanError: a number without a task.
    """
    _check_numbers(chosen, tasks)
    by_name = {task.name: task for task in tasks}
    for name in (name for categories in chosen.values() for name, _ in categories):
        if name not in by_name:
            raise DataError(unknown("task", name, by_name))

    def choose(number: int, known: KeysView[str]) -> list[str]:
        return [i for name, label in chosen.get(number, ()) for i in by_name[name].of_class(label)]

    return _task_by_task(tasks, choose)


def random_samples(tasks: Sequence[Task], *, seed: int, share: float = 0.10) -> RequestStream:
    """After each task unlearn a random share of everything learned and still known.

    Args:
        tasks: one after the other.
        seed: of the choice.
        share: of the known ids, above 0 and below 1; at least one id goes.

    Raises:
        PlanError: the share is out of range.
    """
    if not 0 < share < 1:
        raise PlanError(f"a share of {share} to unlearn; accepted: above 0 and below 1")

    def choose(number: int, known: KeysView[str]) -> list[str]:
        return shuffled(list(known), seed, "random", number)[: max(1, round(share * len(known)))]

    return _task_by_task(tasks, choose)


def _task_by_task(tasks: Sequence[Task], choose: Callable[[int, KeysView[str]], Sequence[str]]) -> RequestStream:
    """Learn each task, then forget what ``choose(number of the task, ids known)`` says, if anything."""
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


def _random_class(task: Task, known: KeysView[str], seed: int, number: int) -> list[str]:
    """Ids, still known, of one class of a task that has some."""
    own = [i for i in task.ids if i in known]
    classes = list(dict.fromkeys(task.labels[i] for i in own))
    label = shuffled(classes, seed, f"category/{task.name}", number)[0]
    return [i for i in own if task.labels[i] == label]


def _check_numbers(numbers: Iterable[int], tasks: Sequence[Task]) -> None:
    for number in numbers:
        if not 1 <= number <= len(tasks):
            raise PlanError(f"unlearning after task {number}; accepted: 1 to {len(tasks)}, chosen by `after`")
