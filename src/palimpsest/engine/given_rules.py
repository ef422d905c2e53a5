"""The rules that a run is given: checked before anything is read, beside its method and its sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palimpsest import derived, methods, rules
from palimpsest.data.sets.roles import ROLES, given_roles
from palimpsest.errors import PlanError, unknown

if TYPE_CHECKING:
    from pydantic import BaseModel

    from palimpsest.method_card import MethodCard

RuleRows = Sequence[Mapping[str, Any]]


def chosen_rules(given: object, method: MethodCard, options: BaseModel) -> tuple[dict[str, Any], ...]:
    """The rules of a run, defaults filled in.

    Args:
        given: as in ``plan.rules``.
        method: of the run.
        options: of the method.

    Raises:
        PlanError: there is no such rule or option, two of them contradict, or the method takes no steps.
    """
    rows = rules.chosen(given)
    if not rows:
        return ()  # no torch for who asked for none
    if method.edits and any(row[rules.WHICH] not in method.keeps for row in rows):
        raise PlanError(
            f"rule {rows[0]['kind']}: method {method.name!r} edits the weights and takes no steps for a rule to act "
            "on; leave the rules out"
        )
    rules.check_together([rules.rule_of(row) for row in rows], method.name, methods.load(method.name)(options).rules())
    return rows


def looked_at(rows: RuleRows, given: Collection[str], method: MethodCard, verb: str) -> tuple[str, ...]:
    """Sets that the rules of a run look at.

    Args:
        rows: the rules.
        given: names of the sets that the run was given.
        method: of the run; the sets that are made for it are there, too.
        verb: what the run is for.

    Raises:
        PlanError: one of them is not there.
    """
    there = {*given, *derived.of_needs(method.needs)}
    wanted = rules.reads(rows)
    for name, rule in wanted.items():
        able = {*there, *(role for role in given_roles() if verb in ROLES[role].verbs)}
        if name not in able and name in ROLES:
            raise PlanError(
                f"rule {rule} looks at the {name} set, which no {verb} run has; leave the rule out, or have it look at "
                f"one of: {', '.join(sorted(able))}"
            )
        if name not in able:
            raise PlanError(f"rule {rule} looks at a set that there is not: {unknown('set', name, able)}")
        if name not in there:
            raise PlanError(f"rule {rule} looks at the {name} set; give it with --{name} FILE")
    return tuple(wanted)
