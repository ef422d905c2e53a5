"""From scores and gates to a verdict and what to do next: after a run, or years later from its record. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from palimpsest import methods
from palimpsest.audit.advice import AdviceFacts, advise
from palimpsest.audit.gate_text import gate_fields
from palimpsest.audit.gates import Gate, default_gates, forget_gates, parse_gates, refuse_unmeasured
from palimpsest.audit.judging import Finding, ScoreTable, examine, sum_up
from palimpsest.audit.known import counted_no_more, distrusting, known_checks
from palimpsest.audit.plain_verdict import say_plainly
from palimpsest.audit.removal import as_served, removal_of
from palimpsest.engine.moved import verdict_moved
from palimpsest.engine.plan import Plan
from palimpsest.errors import DataError
from palimpsest.loop.training import Training
from palimpsest.models.families import Family, family_that_takes
from palimpsest.records import Verdict
from palimpsest.report.beside import WHOLE_BASE, is_beside_its_base
from palimpsest.report.nouns import kind_in_record
from palimpsest.report.schema import Ending, LevelInfo, Origin, RunResult, VerdictRow

if TYPE_CHECKING:
    from palimpsest.control.level import Level

_ORIGINS: Mapping[Origin | None, str] = {
    "unknown": "The oracle is of unknown origin: no record says what it learned, so it may have seen the forget set",
    "base": "The oracle is the base as it was given: it never learned the retain set either",
}


@dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on.

    Attributes:
        plan: resolved; its gates and bounds are what is asked.
        scores: column -> set -> metric key -> score.
        sizes: set -> number of its examples.
        ending: how training ended.
        family: of the model.
        origin: of the oracle.
        doubts: reasons why nobody can call it passed though all gates hold.
    """

    plan: Plan
    scores: ScoreTable
    sizes: Mapping[str, int]
    ending: Ending
    family: Family
    origin: Origin | None = None
    doubts: Sequence[str] = ()


def judged(result: RunResult, gates: Iterable[Any] | None = None, bounds: Iterable[str] = ()) -> RunResult:
    """A recorded run with its verdict reached anew from its scores.

    Args:
        result: the record.
        gates: rows in the place of the plan's gates, as in a plan file; None = the plan's own.
        bounds: lines as of ``--gate``, each in the place of the plan's gate of the same set and metric.

    Raises:
        DataError: the record's plan is not one of this version.
        PlanError: a gate that is none, or is on what was not measured.
    """
    lines = list(bounds)
    evidence = evidence_of(result, gates, lines)
    verdict, advice = reach_verdict(evidence)
    row = None if verdict is None else VerdictRow.of(verdict)
    moved = verdict_moved(result, row, asked_anew=gates is not None or bool(lines)) or result.moved
    return result.model_copy(update={"gates": gates_of(evidence), "verdict": row, "advice": advice, "moved": moved})


def evidence_of(result: RunResult, gates: Iterable[Any] | None = None, bounds: Iterable[str] = ()) -> Evidence:
    """What a record holds of it; as ``judged``."""
    plan = _recorded_plan(result)
    given = None if gates is None else parse_gates(_as_list(gates))
    lines = parse_gates([gate_fields(line) for line in bounds])
    refuse_unmeasured((*(given or ()), *lines), result.scores.get("after", {}))
    asked = {"gates": result.gates if given is None else given, "bounds": replaced(plan.bounds, lines)}
    return Evidence(
        plan.model_copy(update={name: value for name, value in asked.items() if value is not None}),
        result.score_table(),
        {name: info.n for name, info in result.sets.items()},
        result.ending or Ending(),
        family_of_record(result),
        result.oracle_origin,
        doubts_of(plan, result.level),
    )


def family_of_record(result: RunResult) -> Family:
    """The family by which a record is judged."""
    return family_that_takes(kind_in_record(result))


def _as_list(gates: object) -> object:
    """Rows of any iterable; what is none, or is one row or text alone, is left for the parser to refuse."""
    return list(gates) if isinstance(gates, Iterable) and not isinstance(gates, str | Mapping) else gates


def _recorded_plan(result: RunResult) -> Plan:
    what = {
        "calibrate": "calibration",
        "harden": "hardening",
        "federate": "federation",
        "erase": "client's erasure",
    }.get(result.kind)
    if what is not None:
        raise DataError(
            f"a {what} is not judged: it has no gates, only what it was to keep; have the run judged whose model "
            "it was given, or a run with --restore"
        )
    try:
        return Plan.model_validate(result.plan)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        problem = f"the plan of this record cannot be read by this version (at {place}); judge it with its own"
        raise DataError(problem) from None


def replaced(gates: Iterable[Gate], others: Sequence[Gate]) -> tuple[Gate, ...]:
    """Some gates without those that others take the place of, and the others behind them."""
    named = {(gate.set, gate.metric) for gate in others}
    return (*(gate for gate in gates if (gate.set, gate.metric) not in named), *others)


def doubts_of(plan: Plan, level: Level | LevelInfo | None) -> list[str]:
    """Why nobody can call a run passed that stands on this level; none where an oracle shows it."""
    return [level.doubt] if level is not None and level.doubt and plan.oracle is None else []


def reach_verdict(evidence: Evidence) -> tuple[Verdict | None, tuple[str, ...]]:
    """Hold gates and checks against the scores.

    Returns:
        The verdict, None where nothing is asked of the run (learning without gates); and what to do next.
    """
    scores, ending, doubts = evidence.scores, evidence.ending, _doubts(evidence)
    checks = _known_checks(evidence) if "forget" in evidence.sizes else ()
    findings = distrusting((*checks, *examine(gates_of(evidence), scores)))
    if not findings:
        return None, ()
    remarks = [_ORIGINS[evidence.origin]] if evidence.origin in _ORIGINS else []
    if is_beside_its_base(evidence.plan.kind, evidence.plan.method, evidence.plan.scope.model_dump()):
        remarks.append(WHOLE_BASE)
    verdict = sum_up(findings, budget_ended=ending.budget, doubts=doubts, remarks=remarks)
    plain = say_plainly(
        findings, verdict.outcome, scores, doubts=doubts, budget_ended=ending.budget, short=ending.short
    )
    removal = (
        removal_of(scores, gates_of(evidence), judging=evidence.family.judging)
        if evidence.sizes.get("forget")
        else None
    )
    told, advice = as_served(Verdict(verdict.outcome, verdict.sentence, verdict.gates, plain), removal)
    return told, advise(_facts(evidence, findings, verdict)) if advice is None else advice


def _known_checks(evidence: Evidence) -> tuple[Finding, ...]:
    """Those on the forget set that no plan can leave out, by how the method deletes."""
    checks, card = known_checks(evidence.scores, judging=evidence.family.judging), methods.card(evidence.plan.method)
    only_counts = card.edits and card.makes_head and not (card.moves_all or card.tunes_alone)
    return counted_no_more(checks) if only_counts else checks


def _doubts(evidence: Evidence) -> list[str]:
    """Those of the level, why an edit that goes by it ended above it, and why a run gave the weights back."""
    ending, doubts = evidence.ending, list(evidence.doubts)
    if ending.short and methods.card(evidence.plan.method).edits:
        doubts.append(f"the edit ended above the level of never seen: {ending.short}")
    elif ending.unchanged:
        doubts.append(f"this run changed nothing ({ending.short}), and the model scored so before it")
    return doubts


def gates_of(evidence: Evidence) -> tuple[Gate, ...]:
    """The plan's gates, else the default ones, and its bounds, each in the place of the gate that it names.

    A plan may bound the forget set as it likes, but not leave it out: what remembers everything would pass.
    """
    plan, columns, sets = evidence.plan, evidence.scores.keys(), evidence.sizes.keys()
    how: dict[str, Any] = {"judging": evidence.family.judging, "guards": methods.is_guard(plan.method)}
    if plan.gates is None:
        gates = default_gates(plan.kind, columns, sets, **how)
    elif "forget" not in sets or any(gate.set == "forget" for gate in plan.gates):
        gates = plan.gates
    else:
        gates = (*forget_gates(columns, sets, **how), *plan.gates)
    return replaced(gates, plan.bounds)


def _facts(evidence: Evidence, findings: Sequence[Finding], verdict: Verdict) -> AdviceFacts:
    plan, method, ending = evidence.plan, methods.card(evidence.plan.method), evidence.ending
    finds_rate = plan.control.kind == "auto"
    return AdviceFacts(
        findings,
        verdict.outcome,
        given={*plan.files, *(role for role in ("base", "oracle") if getattr(plan, role) is not None)},
        takes={*method.needs, *(name for group in method.one_of for name in group), *method.uses},
        sizes=evidence.sizes,
        level="level" in evidence.scores,
        doubted=bool(evidence.doubts),
        unknown_oracle=evidence.origin == "unknown",
        steps=ending.steps,
        rate_given=_rate_given(plan),
        finds_rate=finds_rate,
        own_schedule=_own_schedule(plan),
        budget_ended=ending.budget,
        short=ending.short,
        others=[n for n in evidence.family.alternatives if n != plan.method and plan.kind in methods.card(n).kinds],
        metrics=plan.measuring.metrics,
        guards=methods.is_guard(plan.method),
        edits=method.edits,
    )


def _rate_given(plan: Plan) -> bool:
    """Was a rate chosen by hand, and not by the method or by the run?"""
    usual = methods.card(plan.method).defaults.get("learning_rate", Training.model_fields["learning_rate"].default)
    return plan.control.kind != "auto" and plan.training.learning_rate != usual


def _own_schedule(plan: Plan) -> bool:
    """Did the run keep to the rate and length that its method brings?"""
    return methods.card(plan.method).own_schedule and plan.control.kind != "auto" and not _rate_given(plan)
