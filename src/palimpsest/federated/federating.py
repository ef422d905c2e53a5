"""A federation, or an erasure from one, from plan to record: a whole version folder, or none.

    scores before -> the model once in memory, its scope applied -> the procedure, round by round
                  -> (retraining without the client) -> what came out laid into the model, saved, loaded again, compared
                  -> scores after -> rounds.json, rounds.html, result.json, report.html; the rounds as a companion

Whoever dies in between goes on: what clients answered is on the disk, the rest is made again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from palimpsest.companions import companion_place
from palimpsest.companions.marks import KEY_VARIABLE, MarkKey, key_file, own_key
from palimpsest.companions.round_record import Weights
from palimpsest.companions.round_writing import RoundWriter
from palimpsest.companions.rounds import RoundLedger
from palimpsest.durable import check_held_still, flush_tree, with_usual_modes
from palimpsest.engine.execute import shown_again
from palimpsest.engine.given import Manner
from palimpsest.engine.inputs import encode_set
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.measuring import measure_sets
from palimpsest.engine.outcome import environment
from palimpsest.engine.output import FEDERATED, ONLY_FOR_THE_RUN, RESULT, Output
from palimpsest.engine.process_peak import peak_bytes
from palimpsest.engine.save import MERGED_TOLERANCE, answers, load_saved
from palimpsest.engine.sound import drop_damaged
from palimpsest.engine.unfinished import told_how_far
from palimpsest.errors import PlanError, UsageError
from palimpsest.federated import erasers
from palimpsest.federated.carrying_out import RoundFacts, carry_out, facts_of
from palimpsest.federated.distances import Distances, distances_between
from palimpsest.federated.fed_avg import fed_avg
from palimpsest.federated.fed_avg_rule import ended_by_rule
from palimpsest.federated.federated_plan import FED_AVG, FederatedPlan
from palimpsest.federated.given_clients import ReadClients, together
from palimpsest.federated.going_through import combine_with
from palimpsest.federated.local import LocalClients
from palimpsest.federated.procedure import Clients, Procedure
from palimpsest.federated.recorded_rounds import RecordedRounds
from palimpsest.federated.rounds_facts import FACTS, FederationFacts, RetrainedFacts
from palimpsest.federated.rounds_page import ROUNDS_PAGE, save_rounds_page
from palimpsest.federated.workbench import Workbench, load_for
from palimpsest.files import write_atomic
from palimpsest.in_words import so_many
from palimpsest.models.load import Loaded, device, load, source_digest, use_threads
from palimpsest.models.parts.with_parts import write_version
from palimpsest.models.scope import leave_scope
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.records import Cost
from palimpsest.report.page import PAGE, save_html
from palimpsest.report.schema import CostRow, RunResult, SetInfo, rows_of

Serve = Callable[[Clients], dict[str, Tensor]]
"""Carries a procedure out with some clients."""

Through = Callable[[Workbench, Serve], dict[str, Tensor]]
"""Finds the clients of a workbench, in this process or elsewhere, and serves them."""


@dataclass(frozen=True)
class _Federation:
    """One that is at work."""

    plan: FederatedPlan
    read: ReadClients
    manner: Manner
    target: Output
    key: MarkKey
    through: Through | None

    @property
    def names(self) -> tuple[str, ...]:
        """Clients that work in it: of an erasure those that stay."""
        return tuple(sorted(self.read.rows))

    def bench(self, loaded: Loaded) -> Workbench:
        """The model with its scope applied."""
        folder = self.target.partial / FEDERATED / "work"
        return Workbench.on(self.plan.local_plan(), loaded, self.read.rows, folder)

    def writer(self) -> RoundWriter:
        """Of the rounds that the version keeps."""
        ledger = RoundLedger.open(companion_place("rounds", self.target.partial), self.key)
        return RoundWriter(ledger, {*self.names, *filter(None, [self.plan.gone])})

    def carried_out(self, bench: Workbench, make: Callable[[], Procedure], writer: RoundWriter, stage: str) -> Weights:
        """What a procedure led to, now or before a death."""
        if writer.ledger.index.ended:
            return writer.ledger.final
        told = partial(self._told, stage)
        serve: Serve = lambda clients: carry_out(make(), clients, writer, told)  # noqa: E731 (handed on at once)
        through = self.through or partial(in_this_process, self._at_work)
        return through(bench, serve)

    def _told(self, stage: str, facts: RoundFacts) -> None:
        absent = f", absent: {', '.join(facts.absent)}" if facts.absent else ""
        loss = "" if facts.loss is None else f"loss {facts.loss:.4f}, "
        answered = f"{so_many(len(facts.told), 'client')} answered"
        self.manner.progress(f"{stage} {facts.number + 1}", 0, 0, f"{loss}{answered}{absent}")

    def _at_work(self, number: int, client: str) -> None:
        place = self.names.index(client) + 1 if client in self.names else 0
        self.manner.progress(f"round {number + 1}", place, len(self.names), client)

    def learning(self, bench: Workbench) -> Procedure:
        """How these clients learn from the start."""
        plan, start = self.plan, bench.weights()
        if plan.learned_for:
            return erasers.load(plan.learned_for).learn(start, self.names, plan.epochs, plan.rounds)
        return fed_avg(start, self.names, plan.epochs, plan.rounds, combine_with(plan.combining, self.key))

    def erasing(self) -> Procedure:
        """How the client goes."""
        return erasers.load(self.plan.method).erase(self.history(), self.plan.gone)

    def history(self) -> RecordedRounds:
        """The rounds of the version to erase from."""
        ledger = RoundLedger.open(companion_place("rounds", _folder(self.plan.after)), self.key)
        return RecordedRounds(ledger, (*self.names, self.plan.gone), self.plan.epochs)

    def encoded(self, loaded: Loaded) -> dict[str, Any]:
        """What is measured, each set by itself: clients may share rows."""
        sets = dict(self.read.sets)
        sets["retain" if self.plan.gone else "learn"] = together(self.read.rows)
        encoding = self.plan.local_plan().encoding
        return {name: encode_set(sets[name], loaded, encoding) for name in sorted(sets) if sets[name]}

    def measured(self, column: str, loaded: Loaded, sets: Mapping[str, Any]) -> Measured:
        """Scores, each taken once."""
        seed = self.plan.local_plan().training.seed
        how: dict[str, Any] = {"seed": seed, "column": column, "progress": self.manner.progress}
        return self.target.remember(column, lambda: measure_sets(loaded, sets, self.plan.measuring, **how))

    def saved(self, bench: Workbench, final: Weights, sets: Mapping[str, Any]) -> Loaded:
        """The version on the disk, found to answer as the model in memory."""
        folder = self.target.partial
        self.installed(bench, final)
        said = answers(bench.model, sets)
        plain = leave_scope(bench.model, bench.plan.scope)
        check_held_still(folder)
        write_version(plain.eval(), folder, safe_serialization=True)
        if bench.loaded.companion is not None:
            bench.loaded.companion.save_pretrained(folder)
        with_usual_modes(folder, {*ONLY_FOR_THE_RUN, "companion"})
        return load_saved(folder, said, sets, tolerance=MERGED_TOLERANCE)

    def installed(self, bench: Workbench, final: Weights) -> None:
        """Lay what came out into the model, as the procedure's owner does it."""
        owner = self.plan.learned_for or (self.plan.method if self.plan.gone else "")
        if owner:
            erasers.load(owner).install(bench, final)
        else:
            bench.lay(final)


def in_this_process(at_work: Callable[[int, str], None], bench: Workbench, serve: Serve) -> dict[str, Tensor]:
    """Serve the clients of a workbench one after the other."""
    return serve(LocalClients(bench, at_work))


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
    target = Output(manner.output)
    if target.finished(plan):
        return shown_again(target, manner)
    with told_how_far(target.partial), target.held():
        if target.finished(plan):
            return shown_again(target, manner)
        target.begin(plan)
        drop_damaged(target.partial, manner.progress)
        with _cleared_if_nothing_was_heard(target):
            work = _Federation(plan, read, manner, target, _key(), through)
            result, facts = _made(work)
            _write(target, result, facts)
        target.complete()
    return result


@contextmanager
def _cleared_if_nothing_was_heard(target: Output) -> Iterator[None]:
    """What was refused before a client was asked leaves nothing; what was heard stays, whatever comes."""
    try:
        yield
    except UsageError:
        if not companion_place("rounds", target.partial).exists():
            target.abandon()
        raise


def _key() -> MarkKey:
    key = own_key()
    if key is None:
        raise PlanError(f"{key_file()} cannot be written, and rounds are signed; set {KEY_VARIABLE} to a file of yours")
    return key


def _made(work: _Federation) -> tuple[RunResult, FederationFacts]:
    """Everything that loads, measures, asks and saves."""
    plan = work.plan
    loaded = load_for(plan.local_plan(), work.read.rows, work.manner.threads)
    sets = work.encoded(loaded)
    columns = {"before": _before(work, loaded, sets)}
    threads = use_threads(loaded.model, work.manner.threads)
    bench, writer = work.bench(loaded), work.writer()
    make = work.erasing if plan.gone else partial(work.learning, bench)
    start = bench.weights()
    final = work.carried_out(bench, make, writer, "round")
    facts = _facts(work, writer, final)
    if plan.retrains:
        facts, columns["oracle"] = _retrained(work, bench, (start, final), sets, facts)
    columns["after"] = work.measured("after", work.saved(bench, final, sets), sets)
    model = source_digest(work.target.partial)
    writer.settle(model, plan.gone)
    flush_tree(work.target.partial)
    return _result(work, columns, facts, {"model": model, "threads": threads}), facts


def _before(work: _Federation, loaded: Loaded, sets: Mapping[str, Any]) -> Measured:
    """Scores of the model that the federation starts from, or of the version to erase from."""
    if not work.plan.after:
        return work.measured("before", loaded, sets)
    version = load(_folder(work.plan.after), tokenizer_needed=False)
    version.model.to(device())
    return work.measured("before", version, sets)


def _facts(work: _Federation, writer: RoundWriter, final: Weights) -> FederationFacts:
    """What the rounds took; kept, because those that a client who goes took part in are dropped at the end."""
    place = work.target.partial / "remembered" / FACTS
    if place.is_file():
        return FederationFacts.model_validate(read_sealed(place))
    ledger, plan = writer.ledger, work.plan
    rounds = [facts_of(writer, number) for number in range(ledger.index.first, ledger.index.end)]
    facts = FederationFacts.of(plan.kind, plan.method, rounds)
    of_eraser = erasers.load(plan.method) if plan.gone else None
    facts = facts.model_copy(
        update={
            "gone": plan.gone,
            "ended": _ended(plan, facts),
            "learned_for": plan.learned_for or FED_AVG,
            "guarantee": "" if of_eraser is None else of_eraser.guarantee,
            "exact": of_eraser is not None and of_eraser.exact,
            "examples": {name: len(rows) for name, rows in work.read.rows.items()},
            "exchanged": sum(tensor.numel() for tensor in final.values()),
            "scope": plan.local["scope"]["kind"],
        }
    )
    place.parent.mkdir(exist_ok=True)
    write_sealed(place, facts.model_dump(mode="json"))
    return facts


def _ended(plan: FederatedPlan, facts: FederationFacts) -> str:
    """Why the rounds ended, in words."""
    if plan.gone or plan.learned_for or plan.rounds is not None:
        return so_many(len(facts.rounds), "round")
    return ended_by_rule([math.inf if one.loss is None else one.loss for one in facts.rounds])


def _retrained(
    work: _Federation, bench: Workbench, ends: tuple[Weights, Weights], sets: Mapping[str, Any], facts: FederationFacts
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
    rounds = [facts_of(writer, number) for number in range(len(ledger))]
    apart: Distances = distances_between(start, work.history().final, final, other)
    retrained = RetrainedFacts.of(rounds, apart, facts)
    return facts.model_copy(update={"retrained": retrained}), measured


def _result(
    work: _Federation, columns: Mapping[str, Measured], facts: FederationFacts, found: Mapping[str, Any]
) -> RunResult:
    """The record of the run."""
    plan = work.plan
    costs = {column: cost for column, (_, cost) in columns.items()}
    costs["training"] = Cost(sum(one.seconds for one in facts.rounds), 0, peak_bytes())
    sets = {**work.read.sets, "retain" if plan.gone else "learn": together(work.read.rows)}
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


def _write(target: Output, result: RunResult, facts: FederationFacts) -> None:
    """Write what lies beside the model; ``result.json`` last."""
    write_atomic(target.partial / FACTS, facts.model_dump_json(indent=1) + "\n")
    save_rounds_page(facts, result, target.partial / ROUNDS_PAGE)
    save_html(result, target.partial / PAGE)
    flush_tree(target.partial)
    result.save_json(target.partial / RESULT)


def _folder(place: str) -> Path:
    return Path(place).expanduser()
