"""A federation, or an erasure from one, at work: its clients, its procedure, its rounds, and what is measured of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from palimpsest.companions import companion_place
from palimpsest.companions.marks import MarkKey
from palimpsest.companions.round_record import Weights
from palimpsest.companions.round_writing import RoundWriter
from palimpsest.companions.rounds import RoundLedger
from palimpsest.durable import check_held_still, with_usual_modes
from palimpsest.engine.given import Manner
from palimpsest.engine.inputs import encode_set
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.measuring import measure_sets
from palimpsest.engine.output import FEDERATED, ONLY_FOR_THE_RUN, Output
from palimpsest.engine.save import MERGED_TOLERANCE, answers, load_saved
from palimpsest.errors import FederationError
from palimpsest.federated import erasers
from palimpsest.federated.carrying_out import RoundFacts, ToldRound, carry_out
from palimpsest.federated.fed_avg import fed_avg
from palimpsest.federated.federated_plan import FederatedPlan
from palimpsest.federated.given_clients import PUBLIC_CLIENT, ReadClients, all_rows
from palimpsest.federated.going_through import combine_with
from palimpsest.federated.local import LocalClients
from palimpsest.federated.procedure import Clients, Eraser, Procedure
from palimpsest.federated.rate_search import ROUNDS_LOOKED_AT, RateRefused, TriedRate, rate_after, watched
from palimpsest.federated.recorded_rounds import RecordedRounds
from palimpsest.federated.workbench import Workbench, count_as_seen
from palimpsest.in_words import so_many
from palimpsest.models.load import Loaded
from palimpsest.models.parts.with_parts import write_version
from palimpsest.models.scope import leave_scope
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.records import Example

_RATES = "remembered/rates.json"

Serve = Callable[[Clients], dict[str, Tensor]]
"""Carries a procedure out with some clients."""

Through = Callable[[Workbench, Serve], dict[str, Tensor]]
"""Finds the clients of a workbench, in this process or elsewhere, and serves them."""


@dataclass(frozen=True)
class FederationAtWork:
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

    @property
    def eraser(self) -> Eraser:
        """The one by which a client goes, or by whose procedure the federation learns; only where there is one."""
        return erasers.load(self.plan.method, self.plan.options)

    def bench(self, loaded: Loaded) -> Workbench:
        """The model with its scope applied; for the clients, the one that goes and public rows, if given."""
        folder = self.target.partial / FEDERATED / "work"
        beside: dict[str, Sequence[Example]] = {}
        if "forget" in self.read.sets:
            beside[self.plan.gone] = self.read.sets["forget"]
        beside |= {PUBLIC_CLIENT: self.read.public} if self.read.public else {}
        return Workbench.on(self.plan.local_plan(), loaded, {**self.read.rows, **beside}, folder)

    def writer(self) -> RoundWriter:
        """Of the rounds that the version keeps."""
        ledger = RoundLedger.open(companion_place("rounds", self.target.partial), self.key)
        return RoundWriter(ledger, {*self.names, *filter(None, [self.plan.gone]), PUBLIC_CLIENT})

    def carried_out(self, bench: Workbench, make: Callable[[], Procedure], writer: RoundWriter, stage: str) -> Weights:
        """What a procedure led to, now or before a death."""
        if writer.ledger.index.ended:
            return writer.ledger.final
        told = partial(self._told, stage)
        serve: Serve = lambda clients: carry_out(make(), clients, writer, told)  # noqa: E731 (handed on at once)
        if self.plan.searches:
            serve = lambda clients: self._searched(bench, clients, writer, told)  # noqa: E731
        through = self.through or partial(in_this_process, self._at_work)
        return through(bench, serve)

    def _searched(self, bench: Workbench, clients: Clients, writer: RoundWriter, told: ToldRound) -> dict[str, Tensor]:
        """Learn at the usual rate, or at one that the first round does not refuse."""
        start = bench.weights()
        while True:
            rate, decided = rate_after(self._usual_rate(), self.tried_rates())
            bench.lay(start)  # which an attempt has moved away from
            procedure = self.learning(bench, rate)
            try:
                return carry_out(procedure if decided else watched(procedure, rate), clients, writer, told)
            except RateRefused as refused:
                tried = refused.tried
            except FederationError as error:
                if decided or not error.diverged or len(writer.ledger) >= ROUNDS_LOOKED_AT:
                    raise
                tried = TriedRate(rate, 0.0, None)
            writer.begin_again()
            self._note_rate(tried)

    def _usual_rate(self) -> float:
        return float(self.plan.local["training"]["learning_rate"])

    def tried_rates(self) -> list[TriedRate]:
        """Rates that were refused, now or before a death."""
        place = self.target.partial / _RATES
        return [TriedRate(*one) for one in read_sealed(place)["tried"]] if place.is_file() else []

    def _note_rate(self, tried: TriedRate) -> None:
        place = self.target.partial / _RATES
        place.parent.mkdir(exist_ok=True)
        write_sealed(place, {"tried": [*self.tried_rates(), tried]})
        self.manner.progress(f"rate {tried.words}; begun again at {rate_after(0.0, self.tried_rates())[0]:g}", 0, 0)

    @property
    def rate(self) -> float:
        """Of the local work, as given or as found."""
        return rate_after(self._usual_rate(), self.tried_rates() if self.plan.searches else [])[0]

    def _told(self, stage: str, facts: RoundFacts) -> None:
        absent = f", absent: {', '.join(facts.absent)}" if facts.absent else ""
        loss = "" if facts.loss is None else f"loss {facts.loss:.4f}, "
        known = f", {so_many(len(facts.known), 'answer')} from the history" if facts.known else ""
        answered = f"{so_many(len(facts.told) - len(facts.known), 'client')} answered{known}"
        self.manner.progress(f"{stage} {facts.number + 1}", 0, 0, f"{loss}{answered}{absent}")

    def _at_work(self, number: int, client: str) -> None:
        place = self.names.index(client) + 1 if client in self.names else 0
        self.manner.progress(f"round {number + 1}", place, len(self.names), client)

    def learning(self, bench: Workbench, rate: float | None = None) -> Procedure:
        """How these clients learn from the start; at a rate of its own, if one is given."""
        plan, start = self.plan, bench.weights()
        if plan.learned_for:
            return self.eraser.learn(start, self.names, plan.epochs, plan.rounds)
        settings = {} if rate in (None, self._usual_rate()) else {"learning_rate": float(rate or 0.0)}
        return fed_avg(
            start, self.names, plan.epochs, plan.rounds, combine_with(plan.combining, self.key), settings=settings
        )

    def erasing(self) -> Procedure:
        """How the client goes."""
        return self.eraser.erase(self.history(), self.plan.gone)

    def damage(self) -> str:
        """What is wrong with the rounds of the version to erase from; "" = nothing."""
        return self._ledger_before().damage()

    def _ledger_before(self) -> RoundLedger:
        return RoundLedger.open(companion_place("rounds", folder_of(self.plan.after)), self.key)

    def history(self) -> RecordedRounds:
        """The rounds of the version to erase from."""
        combine = combine_with(self.plan.combining, self.key)
        return RecordedRounds(self._ledger_before(), (*self.names, self.plan.gone), self.plan.epochs, combine)

    def encoded(self, loaded: Loaded) -> dict[str, Any]:
        """What is measured, each set by itself: clients may share rows."""
        sets = dict(self.read.sets)
        sets["retain" if self.plan.gone else "learn"] = all_rows(self.read.rows)
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
        needed = bench.loaded.tokenizer is not None  # rows of ready-made tokens need none
        return load_saved(folder, said, sets, tolerance=MERGED_TOLERANCE, tokenizer_needed=needed)

    def installed(self, bench: Workbench, final: Weights) -> None:
        """Lay what came out into the model, as the procedure's owner does it."""
        if self.plan.learned_for or self.plan.gone:
            self.eraser.install(bench, final)
        else:
            bench.lay(final)
        if any(name.endswith("running_mean") for name in final):
            count_as_seen(bench.model)


def in_this_process(at_work: Callable[[int, str], None], bench: Workbench, serve: Serve) -> dict[str, Tensor]:
    """Serve the clients of a workbench one after the other."""
    return serve(LocalClients(bench, at_work))


def folder_of(place: str) -> Path:
    """A folder as a user wrote it."""
    return Path(place).expanduser()
