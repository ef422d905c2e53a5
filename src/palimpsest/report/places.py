"""Rows without a name of their own, called by their places: "people.csv:26" for the digits of a digest."""

from __future__ import annotations

from palimpsest.report.schema import RunResult, ScoreRow, Scores


def with_places(result: RunResult) -> RunResult:
    """A run for people to read: ids that were derived from contents are places, as far as these are known."""
    places = result.places
    if not places:
        return result
    scores: Scores = {
        column: {name: {key: _placed(row, places) for key, row in metrics.items()} for name, metrics in sets.items()}
        for column, sets in result.scores.items()
    }
    answers = tuple(row.model_copy(update={"id": places.get(row.id, row.id)}) for row in result.answers)
    return result.model_copy(update={"scores": scores, "answers": answers, "places": {}})


def _placed(row: ScoreRow, places: dict[str, str]) -> ScoreRow:
    return row.model_copy(update={"by_id": {places.get(key, key): value for key, value in row.by_id.items()}})
