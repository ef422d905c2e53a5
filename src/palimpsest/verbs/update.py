"""Learn what is new and unlearn what must go, in one run. ``learn`` and ``unlearn`` are the special cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from palimpsest.data.layout import Source
from palimpsest.data.memory import describe_source
from palimpsest.errors import PlanError
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import Forgetting, Given, given_by, manner_of
from palimpsest.verbs.early import check_before, check_rows
from palimpsest.verbs.inputs import read_given
from palimpsest.verbs.plan import Plan, checked_sections, make_plan


def update(
    model: str | Path,
    *,
    output: str | Path,
    learn: Source | None = None,
    forget: Source | None = None,
    method: str = "ug_clu",
    plan: Mapping[str, Any] | None = None,
    **arguments: Unpack[Forgetting],
) -> RunResult:
    """Change a model along one trajectory: towards the learn set, away from the forget set, true to the retain set.

    Args:
        model: folder or Hub name.
        output: folder for the new model and its report; must not exist yet.
        learn: examples to learn.
        forget: examples to unlearn; at least one of the two is given, or ``data`` with what of it must go.
        method: one that does what is asked; see ``palimpsest methods``.
        plan: sections of the plan, e.g. {"training": {"learning_rate": 1e-3}, "refine": {"ma": 0.6, "el": 0.05}}.
        arguments: the other sets, models and ways: see ``palimpsest.verbs.arguments.Forgetting``.

    Returns:
        The result, as in ``result.json``.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        RunError: the run could not end as planned.
    """
    given = given_by(model, {"learn": learn, "forget": forget}, arguments)
    manner = manner_of(output, arguments)
    refine = arguments.get("refine")
    refined: dict[str, Any] = {} if refine is None else {"refine": {} if refine else None}
    made = planned(given, method, {**refined, **checked_sections({} if plan is None else plan, "plan")})
    makes_oracle = bool(arguments.get("make_oracle"))
    check_before(made, manner, makes_oracle=makes_oracle)
    read = read_given(given, manner.progress, separator=made.encoding.separator)
    check_rows(made, read, makes_oracle=makes_oracle)
    from palimpsest.verbs.execute import execute  # and torch with it: all above is refused in less time than that takes
    from palimpsest.verbs.oracle import make_oracle

    if makes_oracle:
        made = make_oracle(made, read, manner)
    return execute(made, read, manner)


def planned(given: Given, method: str, sections: Mapping[str, Any]) -> Plan:
    """The plan of a request, before anything is read.

    Raises:
        PlanError: as ``make_plan``; or nothing is to be done.
    """
    pool = "" if given.data is None else describe_source(given.data)
    files = {role: describe_source(given.sets[role]) if role in given.sets else pool for role in given.roles}
    fields = {"kind": kind_of(files), "method": method, "model": given.model, "files": files, **given.models}
    return make_plan(fields, sections)


def kind_of(given: Mapping[str, object]) -> str:
    """Whether it is an "update", "learn" or "unlearn", by the sets that were given.

    Raises:
        PlanError: neither what to learn nor what to forget was.
    """
    if "learn" not in given and "forget" not in given:
        raise PlanError("nothing to do: give what to learn (--learn FILE), what to forget (--forget FILE), or both")
    if "learn" not in given:
        return "unlearn"
    return "update" if "forget" in given else "learn"
