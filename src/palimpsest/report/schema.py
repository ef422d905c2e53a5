"""The JSON twin of a run: everything the page and the terminal table show, and nothing else.

Round-trip law: ``RunResult.load(path) == result`` after ``result.save_json(path)``. Infinite values are strings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)

from palimpsest.audit.gates import Gate
from palimpsest.errors import DataError, reachable
from palimpsest.files import write_atomic
from palimpsest.records import Answer, Cost, Direction, GateResult, Outcome, Score, Verdict
from palimpsest.report.calibration_row import CalibrationInfo
from palimpsest.report.curve_point import CurvePoint
from palimpsest.report.edit_info import EditInfo
from palimpsest.report.guard_info import GuardInfo
from palimpsest.report.prompt_info import PromptRow
from palimpsest.report.row import ReportRow, without_empty
from palimpsest.report.twin_file import json_of, without_record

SCHEMA_ID: Literal["palimpsest.run/1"] = "palimpsest.run/1"

Column = Literal["before", "raw", "after", "without", "oracle", "level"]
COLUMNS: tuple[Column, ...] = ("before", "raw", "after", "without", "oracle", "level")
"""``raw``: as the method left the model, before part was given back; ``without``: the model after, its guards off."""
Origin = Literal["recorded", "base", "unknown"]


class SetInfo(ReportRow):
    """One set of examples."""

    n: int = Field(ge=0)
    """Examples in it."""
    digest: str
    """SHA-256 of its content, hexadecimal."""


class ScoreRow(ReportRow):
    """One metric on one set; ``records.Score`` without its key."""

    value: float | None
    """The aggregate, or None when nothing could be scored."""
    low: float | None
    """Lower end of the 95 % confidence interval, or None when n < 2."""
    high: float | None
    """Upper end of it."""
    n: int = Field(ge=0)
    """Examples that were scored."""
    unscored: int = Field(ge=0)
    """Examples that could not be scored."""
    direction: Direction
    """Which way it points."""
    unit: str
    """E.g. "share of tokens"."""
    version: int
    """Of the metric's definition."""
    by_id: dict[str, float | None] = Field(default_factory=dict)
    """Per-example value, None where unscored."""
    why: str = ""
    """Why nothing could be scored, where the reason holds for all examples; without one it is left out of the file."""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(handler(self), "why")

    @classmethod
    def of(cls, score: Score) -> ScoreRow:
        """The row of a score."""
        names = ("value", "low", "high", "n", "unscored", "direction", "unit", "version", "why")
        return cls(by_id=dict(score.by_id), **{name: getattr(score, name) for name in names})

    def score(self, metric: str) -> Score:
        """The score of this row; ``ScoreRow.of(row.score(key)) == row``."""
        return Score(metric=metric, **dict(self))


Scores = dict[Column, dict[str, dict[str, ScoreRow]]]


class GateRow(ReportRow):
    """One gate: what it asked, and what came out."""

    gate: str
    outcome: Outcome
    sentence: str


class VerdictRow(ReportRow):
    """All gates together."""

    outcome: Outcome
    sentence: str
    """Which gates it rests on."""
    gates: tuple[GateRow, ...] = ()
    plain: str = ""
    """The verdict for people who read no gates; empty in files of version 0.1.0."""

    @classmethod
    def of(cls, verdict: Verdict) -> VerdictRow:
        """The row of a verdict."""
        gates = tuple(GateRow(gate=g.gate, outcome=g.outcome, sentence=g.sentence) for g in verdict.gates)
        return cls(outcome=verdict.outcome, sentence=verdict.sentence, gates=gates, plain=verdict.plain)

    def verdict(self) -> Verdict:
        """The verdict of this row; ``VerdictRow.of(row.verdict()) == row``."""
        gates = tuple(GateResult(g.gate, g.outcome, g.sentence) for g in self.gates)
        return Verdict(self.outcome, self.sentence, gates, self.plain)


class CostRow(ReportRow):
    """What a piece of work cost; ``records.Cost``."""

    seconds: float = Field(ge=0)
    """Wall-clock, model loading apart."""
    tokens: int = Field(ge=0)
    """Token positions that went through the model."""
    peak_bytes: int = Field(ge=0)
    """Highest memory in use."""

    @classmethod
    def of(cls, cost: Cost) -> CostRow:
        """The row of a cost."""
        return cls(seconds=cost.seconds, tokens=cost.tokens, peak_bytes=cost.peak_bytes)

    def cost(self) -> Cost:
        """The cost of this row; ``CostRow.of(row.cost()) == row``."""
        return Cost(self.seconds, self.tokens, self.peak_bytes)


class Ending(ReportRow):
    """How training ended."""

    steps: int = Field(default=0, ge=0)
    """Optimizer iterations."""
    budget: str | None = None
    """The budget that ended it before the stopping was satisfied."""
    short: str | None = None
    """Why a controlled run ended before the forget set was at its level."""
    unchanged: bool = False
    """Are the weights those from before, since nothing better was found? Left out of the file where they moved."""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(handler(self), "unchanged")


class LevelInfo(ReportRow):
    """The level of "never seen" that a controlled run went to; ``control.level.Level`` without its rows."""

    source: str
    """"oracle", "shadow", "holdout" or "classes"."""
    sentence: str
    """In words, with its numbers."""
    values: dict[str, float]
    """Metric -> mean over the forget rows; "nats" per scored position."""
    after: dict[str, float] = Field(default_factory=dict)
    """The same of the model after the run, as last read."""
    correction: float = 0.0
    """Added to each row's MA."""
    differences: dict[str, float] = Field(default_factory=dict)
    """Set that it was calibrated on -> MA of the model minus that of the shadow."""
    doubt: str = ""
    """Why nothing may pass on it, or empty."""
    beyond: str = ""
    """That the model finds the forgotten words far less likely than one that never saw them would, or empty."""


class AnswerRow(ReportRow):
    """What the models said to one prompt; ``records.Answer``."""

    id: str
    subject: str | None = None
    """Whose data it is, if known."""
    standing: str = ""
    """"worst" (still most known after the run), "median" or "best"; "kept": of what stays the least known."""
    prompt: str
    """What was asked."""
    expected: str
    """What the example holds in its place."""
    said: dict[str, str]
    """Column ("before", "after", "oracle") -> the model's own words, greedy."""

    @classmethod
    def of(cls, answer: Answer) -> AnswerRow:
        """The row of an answer."""
        names = ("id", "subject", "standing", "prompt", "expected")
        return cls(said=dict(answer.said), **{name: getattr(answer, name) for name in names})


class RequestInfo(ReportRow):
    """What was asked, by whom and when, as far as it was given."""

    subjects: tuple[str, ...] = ()
    """Whose rows were named."""
    ids: tuple[str, ...] = ()
    """Rows that were named one by one."""
    classes: tuple[str, ...] = ()
    """Classes of images that were named."""
    data: str = ""
    """File that the named rows were taken from; what was not named in it stays."""
    asked_by: str = ""
    """Who asked."""
    asked_on: str = ""
    """When the request came, ISO 8601 date."""


NOT_JUDGED = ("measure", "calibrate", "harden", "federate", "erase")
"""Kinds of runs that have no verdict."""


class RunResult(ReportRow):
    """One run, measured."""

    first_line: str = ""
    """What a reader must know first, of a version whose weights know what it hides; else it is left out of the file."""
    schema_id: Literal["palimpsest.run/1"] = SCHEMA_ID
    """Name and version of this schema."""
    kind: Literal["learn", "unlearn", "update", "measure", "calibrate", "harden", "federate", "erase"]
    """What the run did."""
    method: str
    """Name of the method; empty for a measurement."""
    modality: Literal["text", "labels", "image"] | None = None
    """What its model takes; None in files of version 0.1.0."""
    plan: dict[str, JsonValue]
    """The resolved plan, as JSON."""
    plan_digest: str
    """SHA-256 of the plan, which names the run."""
    model_digest: str = ""
    """SHA-256 of what decides the answers of the model after; empty in files of version 0.1.0 and of a measurement."""
    created: str
    """ISO 8601 time, given by the caller."""
    sets: dict[str, SetInfo]
    """The sets the run saw."""
    scores: Scores
    """Column -> set -> metric key -> row; columns stand in the order of ``COLUMNS``."""
    level: LevelInfo | None = None
    """Where a controlled run was to end; None at a fixed rate."""
    calibration: CalibrationInfo | None = None
    """How much of the change stayed, where part of it was taken back; without that it is left out of the file."""
    guard: GuardInfo | None = None
    """Parts that hide what the weights know; without any it is left out of the file."""
    edit: EditInfo | None = None
    """What an edit cut, and what a probe still finds; without one it is left out of the file."""
    prompts: tuple[PromptRow, ...] = ()
    """Which prompts the rows choose, part by part; without prompts it is left out of the file."""
    oracle_origin: Origin | None = None
    """Of the oracle: "recorded" (as without forget rows), "base" (as it was given), "unknown"; None without."""
    gates: tuple[Gate, ...] | None = None
    """What the verdict was reached by, default gates included; None in files of version 0.1.0."""
    verdict: VerdictRow | None = None
    """What the gates say, or None where there are none."""
    moved: str = ""
    """How the verdict differs from the one that was recorded before it, and why; empty where it does not."""
    advice: tuple[str, ...] = ()
    """What to do after "failed" or "undecided"."""
    request: RequestInfo | None = None
    """What was asked."""
    places: dict[str, str] = Field(default_factory=dict)
    """Id that was derived from a content -> where its example stands, such as "people.csv:26"."""
    answers: tuple[AnswerRow, ...] = ()
    """What the models say to prompts of the forget set, else of what was learned; empty where that was switched off."""
    curve: tuple[CurvePoint, ...] = ()
    """Measurements during training, in the order of steps."""
    stopped: str = ""
    """Why training ended, e.g. "all examples pass" or "budget: 40 steps"."""
    ending: Ending | None = None
    """The same for who judges the run later; None in files of version 0.1.0 and of a measurement."""
    cost: dict[str, CostRow] = Field(default_factory=dict)
    """Cost of "training", of measuring "before", "after" and "oracle", and of "oracle_training"."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Versions and machine."""
    notes: tuple[str, ...] = ()
    """What a reader should know besides."""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(handler(self), "calibration", "guard", "edit", "prompts", "first_line")

    @field_validator("scores")
    @classmethod
    def _in_order(cls, scores: Scores) -> Scores:
        return {column: scores[column] for column in COLUMNS if column in scores}

    def score_table(self) -> dict[str, dict[str, dict[str, Score]]]:
        """The scores as records; the inverse of ``rows_of``."""
        return {
            column: {name: {key: row.score(key) for key, row in rows.items()} for name, rows in sets.items()}
            for column, sets in self.scores.items()
        }

    def save_json(self, path: str | Path) -> None:
        """Write the twin; a reader sees the old file or the new one, never a part.

        Raises:
            DataError: the place cannot be written to.
        """
        write_atomic(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def of_run(cls, place: str | Path) -> RunResult:
        """The twin of a run, by its folder or by its file; as ``load``."""
        reachable(path := Path(place), "run")
        if path.is_dir() and not (path / "result.json").exists():
            raise DataError(without_record(path))
        return cls.load(path / "result.json" if path.is_dir() else path)

    @classmethod
    def load(cls, path: str | Path) -> RunResult:
        """Read a twin.

        Raises:
            DataError: the file is missing, is no JSON, follows another schema or breaks this one.
        """
        value = json_of(Path(path))
        found = value.get("schema_id") if isinstance(value, dict) else None
        if found != SCHEMA_ID:
            raise DataError(
                f"'{path}' has schema_id {found!r}; accepted: {SCHEMA_ID!r}; give the result.json of a palimpsest run"
            )
        try:
            return cls.model_validate_json(json.dumps(value))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise DataError(
                f"'{path}' breaks the schema {SCHEMA_ID!r} at {place}: {first['msg']} "
                f"({error.error_count()} in all); write it again with the run that made it"
            ) from error


def rows_of(scores: Mapping[Column, Mapping[str, Mapping[str, Score]]]) -> Scores:
    """Scores of records -> rows of the twin, the same nesting."""
    return {
        column: {name: {key: ScoreRow.of(score) for key, score in metrics.items()} for name, metrics in sets.items()}
        for column, sets in scores.items()
    }
