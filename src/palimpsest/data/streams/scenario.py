"""What a scenario is: a rule that makes a stream of requests out of tasks, under a name of its own.

A file of ``scenarios/`` ends in ``SCENARIO = Scenario(...)``; nothing else has to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict

from palimpsest.chosen import Chosen
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.tasks import Task
from palimpsest.errors import PlanError


class ScenarioConfig(Chosen):
    """Base of every scenario's options, and by itself none: frozen, unknown ones refused, each with a default.

    What has to be given has the default None, so that the scenario itself says what it needs it for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse an option without a default.

        Raises:
            PlanError: names it.
        """
        for name, field in cls.model_fields.items():
            if field.is_required():
                problem = f"option {name!r} of {cls.__name__} has no default"
                raise PlanError(f"{problem}; accepted: any, and None where it must be given")


_Chosen = TypeVar("_Chosen", bound=ScenarioConfig)


@dataclass(frozen=True)
class StreamMaterial:
    """What a stream is made of.

    Attributes:
        tasks: what can be learned together, in order; their ids are the pool (``pool_of``).
        seed: of every choice that is made at random.
        ids_in: ids of the examples in a file, read as the data of the tasks were.
    """

    tasks: Sequence[Task]
    seed: int
    ids_in: Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Scenario(Generic[_Chosen]):
    """A rule by which requests come.

    Attributes:
        about: what is learned and forgotten when, in one sentence without its full stop; options in backticks.
        make: the stream, of material and options; raises PlanError or DataError where the tasks do not allow it.
        Config: schema of the options.
        forgets: does any request of it forget? If none does, rows need no method that can.
    """

    about: str
    make: Callable[[StreamMaterial, _Chosen], RequestStream]
    Config: type[_Chosen]
    forgets: bool = True
