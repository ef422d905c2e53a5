"""Rows of a page, called by their places: "people.csv:26" for the digits of a digest, and for what was forgotten.

A page is handed on, and an id may be a name. Ids of forgotten rows stand in ``result.json`` alone, where scores are
kept by id.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from palimpsest.records import is_digest
from palimpsest.report.schema import RunResult, ScoreRow, Scores

_FORGOTTEN = "forget"


def with_places(result: RunResult, *, handed_on: bool = False) -> RunResult:
    """A run for people to read: ids that were derived from contents are places.

    Args:
        result: the run.
        handed_on: so are all ids of forgotten rows.
    """
    places = {key: place for key, place in result.places.items() if handed_on or is_digest(key)}
    if handed_on:
        places = {**_rows_by_number(result), **places}
    if not places:
        return result
    scores = _placed_scores(result.scores, places)
    answers = tuple(row.model_copy(update={"id": places.get(row.id, row.id)}) for row in result.answers)
    update: dict[str, object] = {"scores": scores, "answers": answers, "places": {}}
    if result.request is not None:
        ids = tuple(places.get(i, i) for i in result.request.ids)
        update |= {"request": result.request.model_copy(update={"ids": ids}), "plan": _plan_without(result.plan, ids)}
    return result.model_copy(update=update)


def _placed_scores(scores: Scores, places: dict[str, str]) -> Scores:
    return {
        column: {name: {key: _placed(row, places) for key, row in metrics.items()} for name, metrics in sets.items()}
        for column, sets in scores.items()
    }


def _rows_by_number(result: RunResult) -> dict[str, str]:
    """Id of a forgotten row -> its number in the set, where its place is not known."""
    rows = (row for sets in result.scores.values() for row in sets.get(_FORGOTTEN, {}).values())
    ids = dict.fromkeys(key for row in rows for key in row.by_id)
    return {key: f"row {number}" for number, key in enumerate(ids, 1)}


def _plan_without(plan: Mapping[str, JsonValue], ids: tuple[str, ...]) -> dict[str, JsonValue]:
    """The plan, in which a request names rows by their places."""
    request = plan.get("request")
    return {**plan, "request": {**request, "ids": list(ids)}} if isinstance(request, dict) else dict(plan)


def _placed(row: ScoreRow, places: dict[str, str]) -> ScoreRow:
    return row.model_copy(update={"by_id": {places.get(key, key): value for key, value in row.by_id.items()}})
