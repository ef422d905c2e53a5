"""What ``learn``, ``unlearn`` and ``update`` have in common: from arguments to a run that ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from palimpsest.data.read.layout import Source
from palimpsest.data.read.memory_rows import describe_source
from palimpsest.engine.early import check_before, check_rows
from palimpsest.engine.given import Given, Manner
from palimpsest.engine.head_growth import with_classes
from palimpsest.engine.held_back import with_calibration
from palimpsest.engine.inputs import read_given
from palimpsest.engine.output import RESULT
from palimpsest.engine.plan import Plan, checked_sections, make_plan
from palimpsest.engine.progress import silent
from palimpsest.engine.sharded.recipe import with_recipe
from palimpsest.engine.usual import usual_method
from palimpsest.errors import Interrupted, PlanError
from palimpsest.models.as_it_was import as_it_was
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import ARGUMENT_NAMES, given_by, manner_of, path_of, refuse_unknown
from palimpsest.verbs.in_memory import Model, Run, made_beside, model_in, models_among, on_disk, renamed, run_of
from palimpsest.verbs.in_place import check_held, check_left_plain, laid_into


@as_it_was()
def change(
    model: str | Path | Model,
    sets: Mapping[str, Source | None],
    *,
    output: str | Path | None,
    method: str | None,
    plan: Mapping[str, Any] | None,
    arguments: Mapping[str, Any],
) -> RunResult:
    """Run what a verb was asked for.

    Args:
        model: folder, Hub name or a model in memory.
        sets: those that the verb names itself: "learn", "forget".
        output: new folder; None = nothing stays on the disk, and the result has the model.
        method: None = the usual one to unlearn.
        plan: sections of the plan.
        arguments: the verb's further ones.

    Raises:
        UsageError, RunError: as ``update``.
    """
    refuse_unknown(arguments, ARGUMENT_NAMES)
    values = {**arguments, "model": model}
    held = models_among(values)
    in_place = bool(values.pop("in_place", False))
    check_held(held, plan or {}, in_place=in_place, progress=arguments.get("progress") or silent)
    with ExitStack() as stack:
        names = stack.enter_context(on_disk(values))
        place = "" if output is not None else stack.enter_context(_place_for_now())
        manner = manner_of(Path(place) / "run" if output is None else output, values)
        source = path_of(values.pop("model"), "model")
        chosen = method if method is not None else usual_method(source, values.get("revision"))
        if in_place:
            check_left_plain(chosen, plan or {}, values.get("head"))
        result = _changed(given_by(source, sets, values), chosen, plan, manner, values)
        renamed(manner.output, {**names, **made_beside(result, place)})
        if output is not None and not held:
            return result
        return _handed_over(manner.output, held, kept=output is not None, in_place=in_place)


@contextmanager
def _place_for_now() -> Iterator[str]:
    """A folder that goes with the call; Ctrl-C says so.

    Raises:
        Interrupted: the block was stopped.
    """
    with TemporaryDirectory(prefix="palimpsest-") as place:
        try:
            yield place
        except Interrupted as stop:
            how = f"{stop.reached or 'stopped'}; nothing of it is kept: give an output to be able to go on"
            raise Interrupted(how) from stop


def _handed_over(folder: Path, held: Mapping[str, Model], *, kept: bool, in_place: bool) -> RunResult:
    """The result of a run with models in memory, or without an output.

    Args:
        folder: of the run.
        held: role -> model in memory.
        kept: the folder stays.
        in_place: the caller's module gets the weights; last of all, when nothing can go wrong any more.
    """
    result = RunResult.load(folder / RESULT) if kept else run_of(folder)
    if isinstance(result, Run) or in_place:
        changed = model_in(folder, held)
        final = laid_into(held["model"], changed) if in_place else changed
        if isinstance(result, Run):
            result.hold(final)
    return result


def _changed(
    given: Given, method: str, plan: Mapping[str, Any] | None, manner: Manner, arguments: Mapping[str, Any]
) -> RunResult:
    """Check, read, run; everything that can be refused without torch is refused before it is there."""
    refine = arguments.get("refine")
    refined: dict[str, Any] = {} if refine is None else {"refine": {} if refine else None}
    refined |= {name: arguments[name] for name in ("restore", "diversify", "head") if arguments.get(name) is not None}
    made = planned(given, method, {**refined, **checked_sections({} if plan is None else plan, "plan")})
    makes_oracle = bool(arguments.get("make_oracle"))
    check_before(made, manner, makes_oracle=makes_oracle)
    read = with_calibration(made, read_given(given, manner.progress, separator=made.encoding.separator))
    made = with_classes(made, read)
    check_rows(made, read, makes_oracle=makes_oracle)
    from palimpsest.engine.execute import (
        execute,  # and torch with it: all above is refused in less time than that takes
    )
    from palimpsest.engine.oracle import make_oracle

    with as_it_was():  # again, now that torch is there
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
    return with_recipe(make_plan({**fields, "allow_forgotten": given.allow_forgotten}, sections))


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
