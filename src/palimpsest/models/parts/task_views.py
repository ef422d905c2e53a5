"""Parts of one task each, and the model as one task's part shows it: its view.

A learner that adds a part for every task answers from several views of a model: with the part of one task and of no
other, or with none at all (task 0). What enters the head in a view are its features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from palimpsest.method_card import Config
from palimpsest.models.parts import off, parts_of
from palimpsest.models.parts.part import Part


class TaskPartConfig(Config):
    """What every part of a task says."""

    task: int = Field(default=1, ge=1)
    """Number of the task in whose view it acts."""


class TaskPart(Part):
    """A part that acts in the view of one task, and in no other."""

    folds_when_saved = False  # it would act in every view

    @property
    def task(self) -> int:
        """Number of its task, from 1."""
        return int(self.config.task)


def task_parts(model: Any) -> tuple[TaskPart, ...]:
    """The parts of tasks that a model bears, oldest first."""
    return tuple(part for part in parts_of(model) if isinstance(part, TaskPart))


def tasks_of(model: Any) -> tuple[int, ...]:
    """Numbers of the tasks that a model bears parts of, ascending."""
    return tuple(sorted({part.task for part in task_parts(model)}))


@contextmanager
def acting_alone(model: Any, task: int) -> Iterator[None]:
    """Of the parts of tasks only those of one act in the block; none at all for task 0."""
    with off(model, [part for part in task_parts(model) if part.task != task]):
        yield
