"""Give back what a change took from what must stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from palimpsest import metrics
from palimpsest.audit.calibration import check_settings
from palimpsest.data.read.layout import Source
from palimpsest.data.read.memory_rows import describe_source
from palimpsest.engine.calibration_plan import CalibrationPlan
from palimpsest.engine.early import check_examples, check_untouched
from palimpsest.engine.given import Given, Manner
from palimpsest.engine.inputs import Read, digests, read_given
from palimpsest.engine.output import Output
from palimpsest.engine.returning import refuse_forgotten
from palimpsest.engine.sections import as_taught
from palimpsest.errors import ModelError, PlanError
from palimpsest.method_card import KIND_WORDS
from palimpsest.models.as_it_was import as_it_was
from palimpsest.models.parts.parts_folder import part_kinds_in
from palimpsest.models.sources import check_source, family_of, source_digest
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import layout_of, manner_of, path_of, refuse_unknown
from palimpsest.verbs.calibrate_arguments import CalibrateArguments
from palimpsest.verbs.in_memory import Model, on_disk, renamed

CALIBRATION_ROWS = 400  # of Wang et al. 2024


@as_it_was()
def calibrate(
    before: str | Path | Model,
    after: str | Path | Model,
    retain: Source,
    *,
    output: str | Path,
    forget: Source | None = None,
    metric: str | None = None,
    tau: float = 0.95,
    **arguments: Unpack[CalibrateArguments],
) -> RunResult:
    """Make the model between two others that keeps the most of a change, and a share of what the first one knew.

    Every weight is (1 − alpha) before + alpha after, with the largest alpha that keeps ``metric`` of ``retain`` at
    ``tau`` of its value before. It works on what any method made, and is how methods are compared at one retention.

    Args:
        before: the model before the change: folder, Hub name or in memory.
        after: what was made of it, by any method; an adapter over it is scaled.
        retain: what must stay; best rows that no run was trained on.
        output: folder for the model between them and its report; must not exist yet.
        forget: what was to go, to be told what it costs to give back.
        metric: what is kept; None = es of texts, accuracy of images.
        tau: share of its value before, above 0, at most 1.
        arguments: see ``palimpsest.verbs.calibrate_arguments.CalibrateArguments``.

    Returns:
        The result, as in ``result.json``; ``result.calibration`` has alpha and all that was asked.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
    """
    sets = {"retain": retain, "forget": forget}
    return _between({"model": before, "after": after}, sets, output, {"metric": metric, "tau": tau}, arguments)


def _between(
    models: Mapping[str, Any],
    sets: Mapping[str, Source | None],
    output: str | Path,
    asked: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> RunResult:
    """The same with models that may be in memory put on the disk meanwhile."""
    refuse_unknown(arguments, CalibrateArguments.__annotations__)
    values = {**models}
    with on_disk(values, tokenizer_needed=not arguments.get("token_ids")) as names:
        manner = manner_of(output, arguments)
        given = Given(
            path_of(values["model"], "before"),
            {name: source for name, source in sets.items() if source is not None},
            layout=layout_of(arguments),
        )
        plan = _plan(given, {**asked, "after": path_of(values["after"], "after")}, arguments)
        result = _run(plan, given, manner)
        renamed(manner.output, names)
    return result


def _check_divisible(source: str | Path) -> None:
    """A version is not an ensemble of shards, which learned anew: there is no change to take a share of.

    Raises:
        PlanError: it is.
    """
    if "ensemble" in part_kinds_in(Path(source).expanduser()):
        raise PlanError(
            f"model {source} is an ensemble of shards: what it forgot was never learned, and no share of that can be "
            f"given back; accepted: versions without one; keep this one as it is"
        )


def _plan(given: Given, asked: Mapping[str, Any], arguments: Mapping[str, Any]) -> CalibrationPlan:
    """The plan, before anything is read; all that can be refused without the rows is."""
    revision = arguments.get("revision")
    for source in (given.model, asked["after"]):
        check_source(source, revision)
        _check_divisible(source)
    family = family_of(given.model, revision)
    name = asked["metric"] or family.judging.gated[0]
    options, tolerance = dict(arguments.get("options") or {}), arguments.get("tolerance", 1 / 64)
    metric = metrics.build(name, options)
    metrics.refuse_kind([metric], family.takes)
    check_settings(asked["tau"], tolerance, metric.direction, metric.key)
    return CalibrationPlan(
        model=given.model,
        after=asked["after"],
        revision=revision,
        files={role: describe_source(source) for role, source in given.sets.items()},
        metric=name,
        options=options,
        tau=asked["tau"],
        tolerance=tolerance,
        limit=_rows(arguments.get("limit", CALIBRATION_ROWS)),
        seed=arguments.get("seed", 0),
        encoding=as_taught(arguments.get("encoding") or CalibrationPlan.model_fields["encoding"].default, given.model),
    )


def _rows(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise PlanError(f"limit is {limit!r}; accepted: 1 or more rows of each set")
    return limit


def _run(plan: CalibrationPlan, given: Given, manner: Manner) -> RunResult:
    """Check, read, calibrate; what can be refused without torch is refused before it is there."""
    _check_two(plan)
    for source in (plan.model, plan.after):
        check_untouched(source, manner.progress)
    Output(manner.output).check_free(plan)
    read = read_given(given, manner.progress, separator=plan.encoding.separator)
    for examples in read.examples.values():
        check_examples(examples, plan.model, plan.revision)
    refuse_forgotten(read.examples, (plan.after, plan.model), "leave them out of what is to stay")
    plan = _resolved(plan, read)
    from palimpsest.engine.calibrating import execute_calibration  # and torch with it

    with as_it_was():  # again, now that torch is there
        return execute_calibration(plan, read, manner)


def _check_two(plan: CalibrationPlan) -> None:
    """Two models, and one of them may have come from the other."""
    one, other = (Path(source).expanduser() for source in (plan.model, plan.after))
    if plan.model == plan.after or (one.exists() and other.exists() and one.samefile(other)):
        raise PlanError(f"before and after are both {plan.model}; give the model before the change and the one after")
    families = [family_of(source, plan.revision) for source in (plan.model, plan.after)]
    if families[0].takes != families[1].takes:
        kinds = " and the other ".join(KIND_WORDS[family.takes] for family in sorted(families, key=lambda f: f.takes))
        raise ModelError(f"one of {plan.model} and {plan.after} takes {kinds}; give two of one kind")


def _resolved(plan: CalibrationPlan, read: Read) -> CalibrationPlan:
    models = {name: source_digest(getattr(plan, name), plan.revision) for name in ("model", "after")}
    return plan.model_copy(update={"digests": {**digests(read.examples), **models}})
