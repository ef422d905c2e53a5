"""Tasks learned one after the other, and single classes of several of them unlearned in between.

Source: the scenario "cross-task category" is named in UG-CLU, arXiv:2505.15178. After which tasks it unlearns, and how
much, could not be found out: the defaults are our protocol.
"""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Sequence

from pydantic import Field

from palimpsest.data.draws import shuffled
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.scenario import Scenario, ScenarioConfig
from palimpsest.data.streams.task_by_task import check_numbers, task_by_task
from palimpsest.data.streams.tasks import Task
from palimpsest.errors import DataError, PlanError, unknown


class CrossCategoryConfig(ScenarioConfig):
    """Options of cross-task category."""

    after: tuple[int, ...] | None = None
    """Numbers of the tasks after which classes go, from 1; None = those of 2 and 4 there are."""
    num_tasks: int = Field(default=2, ge=1)
    """Tasks that lose a class each time."""


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
    check_numbers(after, tasks)
    if num_tasks < 1:
        raise PlanError(f"{num_tasks} tasks to lose a class; accepted: 1 or more")

    def choose(number: int, known: KeysView[str]) -> list[str]:
        losers = _losers(tasks, known, seed, number, num_tasks) if number in after else ()
        return [i for task in losers for i in _random_class(task, known, seed, number)]

    return task_by_task(tasks, choose)


def _losers(tasks: Sequence[Task], known: KeysView[str], seed: int, number: int, num_tasks: int) -> list[Task]:
    """Tasks that lose a class after the task of a number: a random choice of those that have one left."""
    having = {task.name: task for task in tasks if not known.isdisjoint(task.ids)}
    if len(having) < num_tasks:
        problem = f"after task {number}, {len(having)} tasks still have a class and {num_tasks} are to lose one"
        raise DataError(f"{problem}; accepted: at most {len(having)} here, or a later task")
    return [having[name] for name in shuffled(list(having), seed, "category/tasks", number)[:num_tasks]]


def chosen_categories(tasks: Sequence[Task], chosen: Mapping[int, Sequence[tuple[str, str]]]) -> RequestStream:
    """Unlearn given classes after given tasks.

    Args:
        tasks: numbered from 1.
        chosen: number of a task -> pairs of a task's name and its class, to unlearn after it.

    Raises:
        DataError: a task or class that does not exist, or is not known by then.
        PlanError: a number without a task.
    """
    check_numbers(chosen, tasks)
    by_name = {task.name: task for task in tasks}
    for name in (name for categories in chosen.values() for name, _ in categories):
        if name not in by_name:
            raise DataError(unknown("task", name, by_name))

    def choose(number: int, known: KeysView[str]) -> list[str]:
        return [i for name, label in chosen.get(number, ()) for i in by_name[name].of_class(label)]

    return task_by_task(tasks, choose)


def _random_class(task: Task, known: KeysView[str], seed: int, number: int) -> list[str]:
    """Ids, still known, of one class of a task that has some."""
    own = [i for i in task.ids if i in known]
    classes = list(dict.fromkeys(task.labels[i] for i in own))
    label = shuffled(classes, seed, f"category/{task.name}", number)[0]
    return [i for i in own if task.labels[i] == label]


SCENARIO = Scenario(
    about="tasks are learned one by one; "
    "after those of `after`, one class of each of `num_tasks` earlier tasks is forgotten",
    make=lambda material, config: cross_task_category(
        material.tasks, seed=material.seed, after=config.after, num_tasks=config.num_tasks
    ),
    Config=CrossCategoryConfig,
)
