"""Groups, such as people, learned one after the other, and a given part of each unlearned when its turn comes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.scenario import Scenario, ScenarioConfig, StreamMaterial
from palimpsest.data.streams.stream_request import StreamRequest
from palimpsest.data.streams.tasks import Task, pool_of
from palimpsest.errors import DataError, PlanError


class InterleavedConfig(ScenarioConfig):
    """Options of interleaved requests; both have to be given."""

    pattern: str | None = None
    """Such as "LULU": L learns the next task, U unlearns of the first that was not asked yet what is to go."""
    forget: str | None = None
    """File of the examples that go when their task's turn comes."""


def interleaved(groups: Sequence[Task], pattern: str, *, forget: Collection[str]) -> RequestStream:
    """A stream in the order of a pattern.

    Args:
        groups: what is learned together, in order.
        pattern: such as "LLULUU". L learns the next group; U unlearns of the first learned group that U did not reach
            yet what ``forget`` holds of it.
        forget: ids to unlearn when their group's turn comes, such as the rows that are marked so.

    Raises:
        DataError: an id to forget is in no group, or a group to unlearn has none.
        PlanError: the pattern does not fit the groups.
    """
    pool, unwanted = pool_of(groups), frozenset(forget)
    if strangers := sorted(unwanted.difference(pool)):
        raise DataError(
            f"{len(strangers)} ids to forget are in no group (first: {strangers[0]!r}); accepted: ids of one"
        )
    _check_pattern(pattern, len(groups))
    to_learn, to_unlearn = iter(groups), iter(groups)
    requests: list[StreamRequest] = []
    for letter in pattern:
        if letter == "L":
            group = next(to_learn)
            requests.append(StreamRequest(f"learn {group.name}", learn=group.ids, task=group.name))
        else:
            group = next(to_unlearn)
            part = tuple(i for i in group.ids if i in unwanted)
            if not part:
                raise DataError(f"group {group.name!r} has no id to forget; accepted: at least one where U comes")
            requests.append(StreamRequest(f"unlearn {group.name}", forget=part, task=group.name))
    return RequestStream(pool, tuple(requests))


def _check_pattern(pattern: str, num_groups: int) -> None:
    early = any(2 * pattern[:length].count("U") > length for length in range(1, len(pattern) + 1))
    if set(pattern) - {"L", "U"} or pattern.count("L") != num_groups or early:
        problem = f"the pattern {pattern!r} does not fit {num_groups} groups"
        raise PlanError(f"{problem}; accepted: one L for each group, and U, at no point more often than L before it")


def _from_files(material: StreamMaterial, config: InterleavedConfig) -> RequestStream:
    if config.pattern is None or config.forget is None:
        raise PlanError(
            "stream 'interleaved' needs a pattern and what to forget; set stream.pattern, such as LULU, and "
            "stream.forget, a file"
        )
    return interleaved(material.tasks, config.pattern, forget=material.ids_in(config.forget))


SCENARIO = Scenario(
    about="`pattern: LULU` over the tasks; what goes is in the file `forget`",
    make=_from_files,
    Config=InterleavedConfig,
)
