"""Tasks learned one after the other, and random samples of everything known unlearned in between.

Source: the scenario "random samples" is named in UG-CLU, arXiv:2505.15178. How much it unlearns could not be found out:
the default is our protocol.
"""

from __future__ import annotations

from collections.abc import KeysView, Sequence

from pydantic import Field

from palimpsest.data.draws import shuffled
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.scenario import Scenario, ScenarioConfig
from palimpsest.data.streams.task_by_task import task_by_task
from palimpsest.data.streams.tasks import Task
from palimpsest.errors import PlanError


class RandomConfig(ScenarioConfig):
    """Options of random samples."""

    share: float = Field(default=0.1, gt=0, lt=1)
    """Share of all that is known that goes after each task."""


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

    return task_by_task(tasks, choose)


SCENARIO = Scenario(
    about="after each task a random `share` of everything known is forgotten",
    make=lambda material, config: random_samples(material.tasks, seed=material.seed, share=config.share),
    Config=RandomConfig,
)
