"""Tasks learned one after the other, and nothing unlearned: continual learning alone, to compare with."""

from __future__ import annotations

from collections.abc import Sequence

from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.scenario import Scenario, ScenarioConfig
from palimpsest.data.streams.task_by_task import task_by_task
from palimpsest.data.streams.tasks import Task


def incremental(tasks: Sequence[Task]) -> RequestStream:
    """Learn task by task, forget nothing."""
    return task_by_task(tasks, lambda number, known: ())


SCENARIO = Scenario(
    about="nothing is forgotten",
    make=lambda material, config: incremental(material.tasks),
    Config=ScenarioConfig,
    forgets=False,
)
