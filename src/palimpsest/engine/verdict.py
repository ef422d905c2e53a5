"""From the scores of a run to its verdict and to what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palimpsest import methods
from palimpsest.audit.advice import AdviceFacts, advise
from palimpsest.audit.gates import Gate, default_gates, forget_gates
from palimpsest.audit.judging import ScoreTable, examine, sum_up
from palimpsest.audit.known import distrusting, known_checks
from palimpsest.audit.plain_verdict import say_plainly
from palimpsest.engine.plan import Plan
from palimpsest.loop.job import Ended
from palimpsest.loop.training import Training
from palimpsest.records import Verdict
from palimpsest.report.schema import Origin

ALTERNATIVES = {"text": ("grad_diff", "icu", "npo"), "image": ("salun", "ug_clu", "scrub")}
_ORIGINS: Mapping[Origin | None, str] = {
    "unknown": "The oracle is of unknown origin: no record says what it learned, so it may have seen the forget set",
    "base": "The oracle is the base as it was given: it never learned the retain set either",
}


def gates_of(plan: Plan, scores: ScoreTable, sets: Mapping[str, object], modality: str) -> tuple[Gate, ...]:
    """The plan's gates, else the default ones; the forget set has its own even where the plan names none for it.

    A plan may bound the forget set as it likes, but not leave it out: what remembers everything would pass.
    """
    if plan.gates is None:
        return default_gates(plan.kind, scores.keys(), sets.keys(), modality=modality)
    if "forget" not in sets or any(gate.set == "forget" for gate in plan.gates):
        return plan.gates
    return (*forget_gates(scores.keys(), sets.keys(), modality=modality), *plan.gates)


def reach_verdict(
    plan: Plan,
    scores: ScoreTable,
    sizes: Mapping[str, int],
    ended: Ended,
    *,
    modality: str,
    origin: Origin | None = None,
    doubts: Sequence[str] = (),
) -> tuple[Verdict | None, tuple[str, ...]]:
    """Hold gates and checks against the scores.

    Args:
        plan: resolved.
        scores: column -> set -> metric key -> score.
        sizes: set -> number of its examples.
        ended: how training ended.
        modality: "text" or "image".
        origin: of the oracle.
        doubts: reasons why nobody can call it passed though all gates hold.

    Returns:
        The verdict, None where nothing is asked of the run (learning without gates); and what to do next.
    """
    named = {(gate.set, gate.metric) for gate in plan.bounds}
    others = [gate for gate in gates_of(plan, scores, sizes, modality) if (gate.set, gate.metric) not in named]
    gates = (*others, *plan.bounds)
    checks = known_checks(scores, modality=modality) if "forget" in sizes else ()
    findings = distrusting((*checks, *examine(gates, scores)))
    if not findings:
        return None, ()
    remarks = [_ORIGINS[origin]] if origin in _ORIGINS else []
    verdict = sum_up(findings, budget_ended=ended.budget, doubts=doubts, remarks=remarks)
    plain = say_plainly(findings, verdict.outcome, scores, doubts=doubts, budget_ended=ended.budget, short=ended.short)
    method = methods.load(plan.method)
    usual = method.defaults.get("learning_rate", Training.model_fields["learning_rate"].default)
    finds_rate = plan.control.kind == "auto"
    facts = AdviceFacts(
        findings,
        verdict.outcome,
        given={*plan.files, *(role for role in ("base", "oracle") if getattr(plan, role) is not None)},
        takes=method.draws_from(("learn", "forget", "retain", "replay")),
        sizes=sizes,
        level="level" in scores,
        doubted=bool(doubts),
        unknown_oracle=origin == "unknown",
        steps=ended.steps,
        rate_given=not finds_rate and plan.training.learning_rate != usual,
        finds_rate=finds_rate,
        budget_ended=ended.budget,
        short=ended.short,
        others=[n for n in ALTERNATIVES[modality] if n != plan.method and plan.kind in methods.load(n).kinds],
    )
    return Verdict(verdict.outcome, verdict.sentence, verdict.gates, plain), advise(facts)
