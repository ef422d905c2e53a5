"""What a bench found: facts per request, row and seed. Tables and pages are made of these alone, without torch.

Round-trip law: ``BenchResult.load(path) == result`` after ``result.save_json(path)``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from palimpsest.errors import DataError
from palimpsest.files import write_atomic
from palimpsest.report.row import ReportRow, without_empty

_SCHEMA_ID: Literal["palimpsest.bench/1"] = "palimpsest.bench/1"
ORACLE, NOTHING, RANDOM = "oracle", "do nothing", "random edit"
MIXED = " ~"
"""Behind the name of a row: the same row, calibrated."""
CONTROLS = (ORACLE, NOTHING, RANDOM)
TASK, FORGOT = "task ", "forgot "
"""Of what a request taught, or forgot: the set is called so and then like the request."""


class SetScore(ReportRow):
    """One model on one set of examples; means over the examples."""

    n: int = Field(ge=1)
    """Examples that were read."""
    accuracy: float
    """Share of scored positions whose most likely token (or class) is right: MA of a text, accuracy of an image."""
    strength: float | None = None
    """Extraction strength (ES) of texts; None for images."""
    nll: float
    """Negative log-likelihood per scored position, nats."""
    kl: float | None = None
    """KL(oracle ‖ model) per scored position, nats; None where there is no oracle to compare with."""
    accuracies: dict[str, float] = Field(default_factory=dict)
    """Example -> accuracy, for the sets that later requests compare with: "task NAME" and "forgot NAME"."""
    strengths: dict[str, float] = Field(default_factory=dict)
    """Example -> ES, likewise; empty for images."""


class StepReading(ReportRow):
    """One model after one request."""

    sets: dict[str, SetScore]
    """"learn", "forget", "retain", "test", and for every request before and including this one "task NAME" (what it
    taught and is still known) and "forgot NAME" (what it forgot and is still forgotten); without the empty ones."""
    mia: float | None = None
    """Share of the forget set that an attack on prediction entropy calls members."""
    mia_power: float | None = None
    """Balanced accuracy of the attack on the members and non-members it was fitted to; 0.5 tells nothing."""
    over_sets: dict[str, float] = Field(default_factory=dict)
    """Further metrics of several sets (``metrics/per_set``): name -> value; without any it is left out of the file."""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(handler(self), "over_sets")


class MixedStep(ReportRow):
    """What came of a request when part of the change was taken back (``palimpsest calibrate``)."""

    model: str
    """Folder of the model between."""
    weights: str
    """SHA-256 of its weights."""
    alpha: float
    """Share of the change that stayed."""
    uneven: float
    """Largest step back up of what remains, with alpha ascending; a share."""
    evaluations: int
    """Times it was asked."""
    reading: StepReading


class RowStep(ReportRow):
    """One row on one request."""

    model: str
    """Folder of the model after it."""
    weights: str
    """SHA-256 of that model's weights."""
    sides: dict[str, str] = Field(default_factory=dict)
    """Of a method that isolates: request that taught temporarily -> folder of the network that answers for it."""
    runs: tuple[str, ...] = ()
    """Digests of the plans that ran, in order."""
    stopped: str | None = None
    """Why the request's runs were rejected and the model is the one before it, or None."""
    seconds: float = 0.0
    """Wall-clock of the runs: masks, references and training; loading and measuring apart."""
    tokens: int = 0
    """Positions that went forward in training."""
    norm: float | None = None
    """L2 distance that the run which unlearned moved the weights; None when none did."""
    reading: StepReading
    calibrated: MixedStep | None = None
    """The same request at one retention; None where nothing was forgotten, or the bench does not calibrate."""
    twin: StepReading | None = None
    """Of an oracle: the oracle of another seed beside it."""
    start: StepReading | None = None
    """Of the first oracle: the model before it learned anything, on the same sets."""

    @model_serializer(mode="wrap")
    def _without_calibrated(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(handler(self), "calibrated")


class StreamRequestInfo(ReportRow):
    """One request of a stream: sizes of its sets."""

    name: str
    kind: Literal["R", "T"]
    task: str | None
    learn: int
    """Examples to learn, those to consolidate included."""
    forget: int
    remaining: int
    memory: int
    """Examples in the replay buffer after the purge: what stands for the remaining ones."""
    tasks: dict[str, int]
    """Request that taught -> examples of it that are known afterwards."""
    forgotten: dict[str, int]
    """Request that forgot -> examples of it that are still forgotten afterwards."""


class BenchResult(ReportRow):
    """All of a bench."""

    schema_id: Literal["palimpsest.bench/1"] = _SCHEMA_ID
    created: str
    """When, ISO 8601."""
    bench: dict[str, Any]
    """All that defines it."""
    streams: dict[int, tuple[StreamRequestInfo, ...]]
    """Seed -> requests."""
    rows: dict[str, dict[int, tuple[RowStep, ...]]]
    """Row -> seed -> one step per request; the oracle comes first, the controls last."""
    environment: dict[str, str] = Field(default_factory=dict)

    def save_json(self, path: Path) -> None:
        """Write it in one move."""
        write_atomic(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> BenchResult:
        """Inverse of ``save_json``.

        Raises:
            DataError: the file is not the result of a bench.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"cannot read '{path}': {error.strerror or error}; {_ACCEPTED}") from error
        except (ValidationError, UnicodeDecodeError, json.JSONDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"'{path}' is not the result of a bench ({reason}); {_ACCEPTED}") from None


_ACCEPTED = "accepted: the results.json that palimpsest bench writes"
