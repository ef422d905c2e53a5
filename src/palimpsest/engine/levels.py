"""The level of never seen, as a column of scores and as a record of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from palimpsest.control.level import Level
from palimpsest.control.readings import RowReading
from palimpsest.in_words import show
from palimpsest.metrics import build
from palimpsest.metrics.metric import Statistics
from palimpsest.records import Score
from palimpsest.report.curve_point import CurvePoint
from palimpsest.report.schema import LevelInfo

READ_AS = {"ma": "ma", "es": "es", "accuracy": "ma"}  # metric key -> field of a row's reading
_FORGET = "forget."


def level_scores(level: Level, measured: Mapping[str, Score]) -> Mapping[str, Mapping[str, Score]]:
    """What a model would score that never saw the forget set, in the metrics that its level is read in.

    Args:
        level: with a reading of every forget row.
        measured: the forget set's scores before the run; the same rows are scored.

    Returns:
        Set -> metric key -> score.
    """
    found = {}
    for key, score in measured.items():
        if key not in READ_AS:
            continue
        values = {
            i: None if value is None else _as_read(level.reading.rows[i], READ_AS[key])
            for i, value in score.by_id.items()
        }
        found[key] = replace(build(key, {}).compute(values), unit=score.unit)
    return {"forget": found}


def _as_read(row: RowReading, field: str) -> Statistics:
    return Statistics(getattr(row, field) * row.length, row.length)


def beyond(level: LevelInfo) -> str:
    """A sentence where a model finds the right words far less likely than one that never saw them; else empty.

    No gate looks at it: what is at the level in ES and MA may still be words that no such model would say. "Far" is a
    convention: half as much again and at least 1 nat per token. Of a classifier nothing is said: a class is no word
    that could be garbled, however unlikely.
    """
    after, never = level.after.get("nats"), level.values.get("nats")
    if "accuracy" in level.values or after is None or never is None or after <= max(1.5 * never, never + 1.0):
        return ""
    return (
        "The model finds the words of the forget set far less likely than one that never saw them would "
        f"({show(after)} nats per token against {show(never)}): what it says instead may be garbled; see its answers."
    )


def level_info(level: Level, curve: Sequence[CurvePoint], measured: Mapping[str, Score]) -> LevelInfo:
    """Record of a level, beside what was last read of the forget set.

    Args:
        level: of the run.
        curve: what was read on its way.
        measured: the forget set's scores, whose metrics name the level's values.
    """
    last = next((point.values for point in reversed(curve) if any(key.startswith(_FORGET) for key in point.values)), {})
    values = {key: getattr(level.reading, read_as) for key, read_as in READ_AS.items() if key in measured}
    info = LevelInfo(
        source=level.source,
        sentence=level.sentence,
        values=values | {"nats": level.reading.nats},
        after={key.removeprefix(_FORGET): value for key, value in last.items() if key.startswith(_FORGET)},
        correction=level.correction,
        differences=dict(level.differences),
        doubt=level.doubt,
    )
    return info.model_copy(update={"beyond": beyond(info)})
