"""The roles of a run's sets, a row each: what they are for, and all that follows from it.

From this table come the options of the command line and the arguments of the verbs, what a plan accepts, what is
augmented, measured and may overlap, and the order of every table in a report. A new role is one row.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, NamedTuple

Verb = Literal["learn", "unlearn", "update"]
ALL_VERBS: tuple[Verb, ...] = ("learn", "unlearn", "update")
FORGETTING_VERBS: tuple[Verb, ...] = ("unlearn", "update")


CALIBRATION = "calibration"
"""What must stay and no step is drawn from: by it a run finds how much of what it took can be given back."""


class Role(NamedTuple):
    """What one set of a run is for.

    Attributes:
        name: of the set, of the argument and of the option that give it.
        about: what it holds, for the help.
        verbs: that take it.
        given: by the user; False = made by the run (``derived/``).
        trained_on: methods may draw steps from it.
        measured: before and after a run.
        metrics: of its texts, where they are other than the plan's.
        stays: what it holds should be known after the run.
        enters_statistics: its images may move the statistics of batch normalisation.
        may_overlap: roles whose examples may be in this set, too.
    """

    name: str
    about: str
    verbs: tuple[Verb, ...] = ALL_VERBS
    given: bool = True
    trained_on: bool = False
    measured: bool = False
    metrics: tuple[str, ...] | None = None
    stays: bool = False
    enters_statistics: bool = True
    may_overlap: frozenset[str] = frozenset()


_TABLE = (
    # What is to be forgotten must not enter the statistics of the model that forgets it.
    Role("forget", "What must go.", FORGETTING_VERBS, trained_on=True, measured=True, enters_statistics=False),
    Role(
        "unseen",
        "What must go, in rows never learned.",
        FORGETTING_VERBS,
        trained_on=True,
        measured=True,
        enters_statistics=False,
    ),
    Role("paraphrase", "What must go, in other words.", FORGETTING_VERBS, measured=True),
    Role("learn", "What to learn.", ("learn", "update"), trained_on=True, measured=True, stays=True),
    Role("retain", "What must stay, or a memory of it.", trained_on=True, measured=True, stays=True),
    Role("analogous", "Rows of retain that are most like those to forget.", given=False, trained_on=True, stays=True),
    Role(CALIBRATION, "What must stay, to restore by.", FORGETTING_VERBS, measured=True, stays=True),
    Role("holdout", "Comparable rows the model never saw.", measured=True),
    Role("general", "General text, for perplexity.", measured=True, metrics=("ppl",), stays=True),
    Role("replay", "Rows rehearsed beside.", trained_on=True, may_overlap=frozenset({"general", "retain", "learn"})),
)
ROLES = MappingProxyType({role.name: role for role in _TABLE})
"""Name -> role, in the order of every table."""


def role_of(name: str) -> Role:
    """The role of a set; one that is in no table is made by the run and trained on."""
    return ROLES.get(name) or Role(name, "", given=False, trained_on=True)


def given_roles() -> tuple[str, ...]:
    """Names of the sets that a user gives."""
    return tuple(role.name for role in ROLES.values() if role.given)


def may_overlap(left: str, right: str) -> bool:
    """May two sets have examples in common?

    >>> may_overlap("general", "replay"), may_overlap("forget", "retain")
    (True, False)
    """
    return right in role_of(left).may_overlap or left in role_of(right).may_overlap
