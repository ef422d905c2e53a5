"""Whole tasks, as CLPU handles them: learned for good (R) or temporarily (T); only temporary ones are forgotten (F).

Source: Liu, Liu, Stone, "Continual Learning and Private Unlearning", CoLLAs 2022; the default sequence is that of its
published code, github.com/Cranial-XIX/Continual-Learning-Private-Unlearning@721bb8e.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.scenario import Scenario, ScenarioConfig, StreamMaterial
from palimpsest.data.streams.stream_request import StreamRequest
from palimpsest.data.streams.tasks import Task, pool_of
from palimpsest.errors import PlanError

CLPU_SEQUENCE, CLPU_TASKS = "0R 1T 2T 3R 1R 2F 4T 4F", 5

# What a letter asks for when a task is held for good (R), temporarily (T) or not at all (F); the rest is refused.
STEPS = {("F", "R"): "learn", ("F", "T"): "learn", ("T", "R"): "consolidate", ("T", "F"): "forget"}
HELD = {"R": "held for good", "T": "held temporarily", "F": "not held"}


class TaskAwareConfig(ScenarioConfig):
    """Options of whole tasks."""

    sequence: str | None = None
    """Such as "0R 1T 1F"; None = CLPU's."""


def task_aware(tasks: Sequence[Task], sequence: str = CLPU_SEQUENCE) -> RequestStream:
    """A stream of whole tasks.

    Args:
        tasks: numbered from 0; the default sequence needs five.
        sequence: for each request a task's number and a letter. R learns the task for good, or consolidates it where it
            is held temporarily: the request presents it again. T learns it temporarily, F forgets it.

    Raises:
        PlanError: a request that is none, that is about a task that is not there, or that comes out of order.
    """
    held: dict[int, str] = {}
    requests: list[StreamRequest] = []
    tokens = sequence.split()
    for position, token in enumerate(tokens):
        number, letter = _parsed(token, len(tasks))
        before = held.get(number, "F")
        if (before, letter) not in STEPS:
            possible = " or ".join(f"{number}{after}" for state, after in STEPS if state == before)
            problem = f"request {position} is {token!r}, when task {number} is {HELD[before]}"
            raise PlanError(f"{problem}; accepted: {possible or 'no further request about this task'}")
        times = tokens[: position + 1].count(token)
        name = token if times == 1 else f"{token}-{times}"
        requests.append(_request(name, tasks[number], STEPS[before, letter], temporary=letter == "T"))
        held[number] = letter
    return RequestStream(pool_of(tasks), tuple(requests))


def _request(name: str, task: Task, step: str, *, temporary: bool) -> StreamRequest:
    return StreamRequest(
        name,
        learn=task.ids if step == "learn" else (),
        consolidate=task.ids if step == "consolidate" else (),
        forget=task.ids if step == "forget" else (),
        kind="T" if temporary else "R",
        task=task.name,
    )


def _parsed(token: str, num_tasks: int) -> tuple[int, str]:
    match = re.fullmatch(r"([0-9]+)([RTF])", token)
    if match is None or int(match[1]) >= num_tasks:
        raise PlanError(f"request {token!r}; accepted: a task from 0 to {num_tasks - 1} and R, T or F, such as '0R'")
    return int(match[1]), match[2]


def _chosen(material: StreamMaterial, config: TaskAwareConfig) -> RequestStream:
    if config.sequence is None and len(material.tasks) < CLPU_TASKS:
        raise PlanError(
            f"stream 'task-aware' has {CLPU_TASKS} tasks ({CLPU_SEQUENCE}) and these data make {len(material.tasks)}; "
            "learn fewer classes per task, or set stream.sequence"
        )
    return task_aware(material.tasks, config.sequence or CLPU_SEQUENCE)


SCENARIO = Scenario(
    about="CLPU's sequence, or `sequence: 0R 1T 1F`: number of a task, R learned for good, T temporarily, F forgotten",
    make=_chosen,
    Config=TaskAwareConfig,
)
