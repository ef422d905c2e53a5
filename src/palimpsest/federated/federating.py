"""A federation, or an erasure from one, from plan to record: a whole version folder, or none.

    scores before -> the model once in memory, its scope applied -> the procedure, round by round
                  -> (retraining without the client) -> what came out laid into the model, saved, loaded again, compared
                  -> scores after -> rounds.json, rounds.html, result.json, report.html; the rounds as a companion

Whoever dies in between goes on: what clients answered is on the disk, the rest is made again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from palimpsest.companions import companion_place
from palimpsest.companions.learned import learned_in_federation, write_learned
from palimpsest.companions.marks import KEY_VARIABLE, MarkKey, key_file, own_key
from palimpsest.companions.round_record import Weights
from palimpsest.companions.round_writing import RoundWriter
from palimpsest.companions.rounds import RoundLedger
from palimpsest.engine.given import Manner
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.outcome import environment
from palimpsest.engine.output import FEDERATED, Output
from palimpsest.engine.process_peak import peak_bytes
from palimpsest.engine.whole_folder import made_whole
from palimpsest.errors import DivergedError, ModelError, PlanError, UsageError
from palimpsest.federated import erasers
from palimpsest.federated.at_work import FederationAtWork, Through, folder_of
from palimpsest.federated.carrying_out import round_facts
from palimpsest.federated.distances import Distances, distances_between
from palimpsest.federated.fed_avg_rule import ended_by_rule
from palimpsest.federated.federated_plan import FED_AVG, FederatedPlan
from palimpsest.federated.given_clients import ReadClients, all_rows
from palimpsest.federated.privacy_said import epsilon_of_plan, privacy_note
from palimpsest.federated.rounds_facts import FACTS, FederationFacts, RetrainedFacts
from palimpsest.federated.rounds_page import ROUNDS_PAGE, save_rounds_page
from palimpsest.federated.workbench import Workbench, load_for
from palimpsest.files import write_atomic
from palimpsest.in_words import so_many
from palimpsest.models.load import Loaded, device, load, source_digest, use_threads
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.records import Cost
from palimpsest.report.schema import CostRow, RunResult, SetInfo, rows_of


def execute_federation(
    plan: FederatedPlan, read: ReadClients, manner: Manner, through: Through | None = None
) -> RunResult:
    """Learn in a federation, or erase a client from one, into an output folder; the same call again goes on.

    Args:
        plan: with the digests of its inputs.
        read: rows of the clients that work, and what is measured.
        manner: where to, and how it goes about it.
        through: who finds the clients; None = all are in this process.

    Raises:
        UsageError: something supplied cannot be used, or a record was changed.
        FederationError: too few clients answered; what was heard stays.
        Interrupted: Ctrl-C or SIGTERM stopped it; what was heard stays.
    """

    def made(target: Output) -> RunResult:
        return _made(FederationAtWork(plan, read, manner, target, _key(), through))

    return made_whole(plan, manner, made, clearing=_cleared_if_nothing_was_heard)


@contextmanager
def _cleared_if_nothing_was_heard(target: Output) -> Iterator[None]:
    """What was refused before a client was asked leaves nothing; what was heard stays, whatever comes."""
    try:
        yield
    except UsageError:
        if not companion_place("rounds", target.partial).exists():
            target.abandon()
        raise


@contextmanager
def _refused_if_no_model(plan: FederatedPlan) -> Iterator[None]:
    """What answers with no numbers is no version, and the same command would lead there again."""
    try:
        yield
    except DivergedError as error:
        other = "another --by (palimpsest federated erasers)" if plan.gone else "a smaller --lr"
        raise DivergedError(
            f"what {plan.method} led to is no model any more ({error}); remove the unfinished run (palimpsest clean), "
            f"and give {other}"
        ) from None


def _key() -> MarkKey:
    key = own_key()
    if key is None:
        raise PlanError(f"{key_file()} cannot be written, and rounds are signed; set {KEY_VARIABLE} to a file of yours")
    return key


def _made(work: FederationAtWork) -> RunResult:
    """Everything that loads, measures, asks and saves."""
    plan = work.plan
    loaded = load_for(plan.local_plan(), work.read.rows, work.manner.threads)
    sets = work.encoded(loaded)
    columns = {"before": _before(work, loaded, sets)}
    threads = use_threads(loaded.model, work.manner.threads)
    bench, writer = work.bench(loaded), work.writer()
    make = work.erasing if plan.gone else partial(work.learning, bench)
    start = bench.weights()
    if plan.learned_for:
        work.eraser.check(bench)
    if plan.gone:
        _check_history(work, start)
    final = work.carried_out(bench, make, writer, "round")
    facts = _facts(work, writer, start)
    if plan.retrains:
        facts, columns["oracle"] = _retrained(work, bench, (start, final), sets, facts)
    with _refused_if_no_model(plan):
        columns["after"] = work.measured("after", work.saved(bench, final, sets), sets)
    model = source_digest(work.target.partial)
    writer.settle(model, plan.gone)
    result = _result(work, columns, facts, {"model": model, "threads": threads})
    _write_beside(work, facts, result)
    return result


def _check_history(work: FederationAtWork, start: Weights) -> None:
    """Refuse what the eraser cannot work with, before anybody is asked.

    Raises:
        PlanError: the rounds begin at weights that others had moved.
        ModelError: a record was changed, or is missing.
    """
    plan, eraser = work.plan, work.eraser
    if eraser.from_start and distances_between(start, start, start, work.history().start).learned:
        able = [name for name in erasers.names() if not erasers.load(name).from_start]
        raise PlanError(
            f"{plan.method} goes back to the weights before the first round, and those of {plan.after} come after an "
            f"earlier erasure; accepted: {', '.join(able)}, or the version from before that erasure"
        )
    if "rounds" in eraser.needs and (damage := work.damage()):
        raise ModelError(damage)


def _before(work: FederationAtWork, loaded: Loaded, sets: Mapping[str, Any]) -> Measured:
    """Scores of the model that the federation starts from, or of the version to erase from."""
    if not work.plan.after:
        return work.measured("before", loaded, sets)
    version = load(folder_of(work.plan.after), tokenizer_needed=False)
    version.model.to(device())
    return work.measured("before", version, sets)


def _facts(work: FederationAtWork, writer: RoundWriter, start: Weights) -> FederationFacts:
    """What the rounds took; kept, because those that a client who goes took part in are dropped at the end."""
    place = work.target.partial / "remembered" / FACTS
    if place.is_file():
        return FederationFacts.model_validate(read_sealed(place))
    ledger, plan = writer.ledger, work.plan
    rounds = [round_facts(writer, number) for number in range(ledger.index.first, ledger.index.end)]
    facts = FederationFacts.of(plan.kind, plan.method, rounds)
    of_eraser = work.eraser if plan.gone else None
    facts = facts.model_copy(
        update={
            "gone": plan.gone,
            "ended": _ended(plan, facts),
            "epsilon": epsilon_of_plan(plan, len(rounds)),
            "privacy": privacy_note(plan, len(rounds)),
            "unmeasured": _unmeasured(work),
            "rate": work.rate,
            "tried": tuple(one.words for one in work.tried_rates()),
            "learned_for": plan.learned_for or FED_AVG,
            "guarantee": "" if of_eraser is None else of_eraser.promise(),
            "exact": of_eraser is not None and of_eraser.exact,
            "examples": {name: len(rows) for name, rows in work.read.rows.items()},
            "exchanged": sum(tensor.numel() for tensor in start.values()),
            "combined": plan.combining.words,
            "scope": plan.local["scope"]["kind"],
        }
    )
    place.parent.mkdir(exist_ok=True)
    write_sealed(place, facts.model_dump(mode="json"))
    return facts


def _unmeasured(work: FederationAtWork) -> str:
    """What could not be measured for want of rows."""
    if "holdout" in work.read.sets:
        return ""
    return "No rows that nobody learned were given (--test): how it does on those is not known."


def _ended(plan: FederatedPlan, facts: FederationFacts) -> str:
    """Why the rounds ended, in words."""
    if plan.gone or plan.learned_for or plan.rounds is not None:
        return so_many(len(facts.rounds), "round") if facts.rounds else "no round: no client was asked"
    return ended_by_rule([math.inf if one.loss is None else one.loss for one in facts.rounds])


def _retrained(
    work: FederationAtWork,
    bench: Workbench,
    ends: tuple[Weights, Weights],
    sets: Mapping[str, Any],
    facts: FederationFacts,
) -> tuple[FederationFacts, Measured]:
    """The same federation without the client from the start, its scores, and how far the version is from it."""
    start, final = ends
    ledger = RoundLedger.open(work.target.partial / FEDERATED / "retrained", work.key)
    writer = RoundWriter(ledger, work.names)
    bench.lay(start)
    other = work.carried_out(bench, partial(work.learning, bench), writer, "retraining, round")
    work.installed(bench, other)
    measured = work.measured("oracle", replace(bench.loaded, model=bench.model), sets)
    bench.lay(start)
    rounds = [round_facts(writer, number) for number in range(len(ledger))]
    apart: Distances = distances_between(start, work.history().final, final, other)
    retrained = RetrainedFacts.of(rounds, apart, facts)
    return facts.model_copy(update={"retrained": retrained}), measured


def _result(
    work: FederationAtWork, columns: Mapping[str, Measured], facts: FederationFacts, found: Mapping[str, Any]
) -> RunResult:
    """The record of the run."""
    plan = work.plan
    costs = {column: cost for column, (_, cost) in columns.items()}
    costs["training"] = Cost(sum(one.seconds for one in facts.rounds), 0, peak_bytes())
    sets = {**work.read.sets, "retain" if plan.gone else "learn": all_rows(work.read.rows)}
    return RunResult(
        kind=plan.kind,
        method=plan.method,
        modality=plan.family.takes,
        plan=plan.model_dump(mode="json"),
        plan_digest=plan.digest(),
        model_digest=found["model"],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sets={name: SetInfo(n=len(rows), digest=plan.digests.get(name, "")) for name, rows in sets.items()},
        scores=rows_of({column: scores for column, (scores, _) in columns.items()}),  # type: ignore[misc]
        stopped=facts.ended,
        cost={name: CostRow.of(cost) for name, cost in costs.items()},
        environment=environment(found["threads"]),
        notes=(*work.read.notes, *facts.notes),
    )


def _write_beside(work: FederationAtWork, facts: FederationFacts, result: RunResult) -> None:
    """The rounds as facts and as a page, and whose rows were learned and forgotten."""
    folder, plan = work.target.partial, work.plan
    write_atomic(folder / FACTS, facts.model_dump_json(indent=1) + "\n")
    save_rounds_page(facts, result, folder / ROUNDS_PAGE)
    rows = all_rows(work.read.rows)  # whose ids bear their clients: two may have the same
    write_learned(folder, learned_in_federation(plan.model, plan.after, rows, work.key))
