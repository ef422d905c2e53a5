"""``rounds.json``: what the rounds of a federation took and led to, for the report. No torch, no tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from palimpsest.errors import DataError, reachable
from palimpsest.federated.going_through import MEANS
from palimpsest.in_words import so_many
from palimpsest.report.row import ReportRow
from palimpsest.report.twin_file import json_of

if TYPE_CHECKING:  # a report is made without torch
    from palimpsest.federated.carrying_out import RoundFacts
    from palimpsest.federated.distances import Distances

FACTS = "rounds.json"
FACTS_SCHEMA = "palimpsest.rounds/1"
FAR_OUT = 10.0
"""Times the median length of a round's changes, beyond which one is told of."""


class RoundRow(ReportRow):
    """One round; ``carrying_out.RoundFacts``."""

    number: int
    """Counted from 0."""
    what: str
    """Kind of local work."""
    asked: tuple[str, ...]
    """Clients that were asked."""
    known: tuple[str, ...] = ()
    """Clients whose answer was taken from a history."""
    told: tuple[str, ...]
    """Clients whose answer counts."""
    absent: dict[str, str] = Field(default_factory=dict)
    """Client -> why it did not answer."""
    loss: float | None = None
    """Mean over the rows of those who answered, before their local work, nats."""
    down: int
    """Bytes that were sent to clients."""
    up: int
    """Bytes of their answers."""
    seconds: float
    """Of the wall clock."""
    client_seconds: float
    """Of the clients' own clocks, summed."""
    norms: dict[str, float] = Field(default_factory=dict)
    """Client -> L2 norm of its change, where it learned."""
    turned: tuple[str, ...] = ()
    """Clients whose change pointed against that of all others, which agreed."""

    @property
    def far_out(self) -> dict[str, float]:
        """Client -> how many times as long its change is as the median, where that is very long; of three or more."""
        middle = median(self.norms.values()) if len(self.norms) > 2 else 0.0
        return {name: norm / middle for name, norm in self.norms.items() if middle and norm > FAR_OUT * middle}


class RetrainedFacts(ReportRow):
    """The same federation without the client from the start."""

    rounds: tuple[RoundRow, ...]
    """Its rounds."""
    before: float | None
    """L2 distance of the version with the client from it, over what is exchanged."""
    after: float | None
    """The same of the version without the client."""
    learned: float | None
    """The same of the start: the scale of these."""
    seconds_share: float | None
    """Client seconds of the erasure, as a share of its own."""

    @classmethod
    def of(cls, rounds: Sequence[RoundFacts], apart: Distances, erasure: FederationFacts) -> RetrainedFacts:
        """From what was carried out."""
        whole = sum(one.client_seconds for one in rounds)
        mine = sum(one.client_seconds for one in erasure.rounds)
        known = {name: None if math.isnan(value) else value for name, value in apart._asdict().items()}
        rows = tuple(RoundRow.model_validate(one.to_json()) for one in rounds)
        return cls(rounds=rows, seconds_share=mine / whole if whole else None, **known)


class FederationFacts(ReportRow):
    """All rounds of a run, and what came of them."""

    schema_id: Literal["palimpsest.rounds/1"] = "palimpsest.rounds/1"
    """Name and version of this schema."""
    kind: Literal["federate", "erase"]
    """Whether a federation learned, or a client was erased from one."""
    method: str
    """The procedure."""
    learned_for: str = ""
    """The procedure by which the federation learned."""
    gone: str = ""
    """The client that was erased."""
    guarantee: str = ""
    """What may be relied on after the erasure."""
    exact: bool = False
    """Does the erasure give what the same procedure gives without that client?"""
    examples: dict[str, int] = Field(default_factory=dict)
    """Client that works in it -> its rows."""
    exchanged: int = 0
    """Numbers that a client is sent in a round."""
    combined: str = "the mean"
    """By what answers were combined."""
    scope: str = ""
    """What they are: "lora", "all", "layers"."""
    ended: str = ""
    """Why it ended."""
    rate: float | None = None
    """Of the local work, as given or as found."""
    tried: tuple[str, ...] = ()
    """Rates that the first round refused, and what became of the loss in it."""
    epsilon: float | None = None
    """Of the privacy of a client at a delta of 1e-5, where there was noise and it can be told."""
    privacy: str = ""
    """The same in words, or why it is not told; "" without noise."""
    unmeasured: str = ""
    """What could not be measured."""
    rounds: tuple[RoundRow, ...] = ()
    """In order."""
    retrained: RetrainedFacts | None = None
    """What retraining without the client leads to, where it was asked for."""

    @classmethod
    def of(cls, kind: Literal["federate", "erase"], method: str, rounds: Sequence[RoundFacts]) -> FederationFacts:
        """From what was carried out."""
        rows = tuple(RoundRow.model_validate(one.to_json()) for one in rounds)
        return cls(kind=kind, method=method, rounds=rows)

    @property
    def down(self) -> int:
        """Bytes that were sent to clients."""
        return sum(one.down for one in self.rounds)

    @property
    def up(self) -> int:
        """Bytes of their answers."""
        return sum(one.up for one in self.rounds)

    @property
    def seconds(self) -> float:
        """Of the wall clock."""
        return sum(one.seconds for one in self.rounds)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the result should know."""
        return tuple(
            note
            for note in (*self._of_rounds(), self._of_rate(), self.privacy, *self._of_erasure(), self.unmeasured)
            if note
        )

    def _of_rounds(self) -> tuple[str, ...]:
        absences = [(one.number + 1, name, why) for one in self.rounds for name, why in one.absent.items()]
        first = "".join(f"; the first: {name} in round {number} ({why})" for number, name, why in absences[:1])
        gone = f"{so_many(len(absences), 'time')} a client did not answer{first}." if absences else ""
        gone = " ".join(filter(None, [gone, self._of_far_out(), self._of_turned()]))
        if not self.down:
            return ("No client was asked: nothing was exchanged.", gone)
        what = f"{self.exchanged:,} numbers were exchanged (scope {self.scope}): {self.down:,} bytes to clients, "
        return (f"{what}{self.up:,} bytes back.", gone)

    def _of_rate(self) -> str:
        if not self.tried:
            return ""
        return (
            f"Rate of the local work: {self.rate:g}. Given up for what the first round did to the loss: "
            f"{'; '.join(self.tried)}. --lr gives another."
        )

    def _of_far_out(self) -> str:
        found = [(one.number + 1, name, times) for one in self.rounds for name, times in one.far_out.items()]
        if not found:
            return ""
        number, name, times = found[0]
        return (
            f"{so_many(len(found), 'change')} stood out by length; the first: {name} in round {number}, {times:,.0f} "
            f"times the median: {self._suspect}"
        )

    @property
    def _suspect(self) -> str:
        robust = self.combined not in MEANS
        bears = f"{self.combined}, by which answers were combined, bears" if robust else "--combine median bears"
        return f"a client that lies, or whose rows are unlike the others'; {bears} a few such."

    def _of_turned(self) -> str:
        found = [(one.number + 1, name) for one in self.rounds for name in one.turned]
        if not found:
            return ""
        return (
            f"{so_many(len(found), 'change')} pointed against all others, which agreed; the first: {found[0][1]} in "
            f"round {found[0][0]}: {self._suspect}"
        )

    def _of_erasure(self) -> tuple[str, ...]:
        if not self.gone:
            return ()
        return (
            f"Guarantee of {self.method}: {self.guarantee[:1].lower()}{self.guarantee[1:]}.",
            self._beside_retraining(),
        )

    def _beside_retraining(self) -> str:
        found = self.retrained
        if found is None:
            return ""
        share = "" if found.seconds_share is None else f"{found.seconds_share:.0%} of the seconds of retraining; "
        if found.after is None:
            return f"Beside retraining: {share}distance not known."
        before = "" if found.before is None else f"{found.before:.3g} before the erasure"
        learned = "" if found.learned is None else f"all of learning moved them by {found.learned:.3g}"
        scale = "; ".join(filter(None, [before, learned]))
        return (
            f"Beside retraining: {share}what came out is {found.after:.3g} from what retraining led to"
            f"{f' ({scale})' if scale else ''}."
        )


def federation_facts_in(folder: str | Path) -> FederationFacts:
    """The facts of a finished federation or erasure.

    Raises:
        DataError: there are none, or they break the schema.
    """
    place = Path(reachable(folder, "run")) / FACTS
    wanted = f"the {FACTS} that `palimpsest federated run` or `erase` left there, or another folder of theirs"
    if not place.is_file():
        raise DataError(f"{folder} holds no {FACTS}; give the folder of `palimpsest federated run` or `erase`")
    try:
        return FederationFacts.model_validate(json_of(place, wanted))
    except ValidationError as error:
        raise DataError(f"{place} breaks the schema {FACTS_SCHEMA!r}: {error.errors()[0]['msg']}") from None
