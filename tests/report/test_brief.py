"""The lines under the verdict."""

from __future__ import annotations

import pytest

from palimpsest.report.brief import brief, request_rows, spent, what_was_asked
from palimpsest.report.schema import CostRow, RequestInfo, RunResult


def test_a_request_is_told_by_its_names_and_the_file_they_were_in(answered: RunResult) -> None:
    lines = dict(brief(answered))
    assert lines["Asked"] == "Forget Ada Morris and Bo Larsen (12 rows of people.jsonl) and keep 40 rows of rest.jsonl"
    assert lines["Asked by"] == "the data-protection office, received 30 June 2026"
    assert lines["Done"] == "icu, 1 July 2026, 12:00 UTC"
    assert lines["Ended"] == "all examples pass"


def test_without_a_request_the_files_tell(answered: RunResult) -> None:
    lines = dict(brief(answered.model_copy(update={"request": None})))
    assert lines["Asked"] == "Forget 12 rows of forget.jsonl and keep 40 rows of rest.jsonl"
    assert not {"Asked by", "Received"} & lines.keys()


def test_only_a_date(answered: RunResult) -> None:
    lines = dict(brief(answered.model_copy(update={"request": RequestInfo(asked_on="2026-06-30")})))
    assert lines["Received"] == "30 June 2026"


def test_rows_and_classes_can_be_named(answered: RunResult, images: RunResult) -> None:
    request = RequestInfo(ids=("a", "b", "c", "d", "e", "f", "ab" * 32))
    assert "Forget a, b, c, d and 3 more (12 rows" in what_was_asked(answered.model_copy(update={"request": request}))
    assert what_was_asked(images) == "Forget the class cat (20 images of cats.npz) and keep 200 images of rest.npz"
    assert dict(request_rows(images)) == {"classes": "cat"}


@pytest.mark.parametrize(
    ("kind", "sets", "said"),
    [
        ("learn", ["learn", "retain"], "Learn 1 row of new.jsonl"),
        ("update", ["learn", "forget"], "Learn 1 row of new.jsonl and forget 12 rows of forget.jsonl"),
        ("measure", ["forget"], "Measure 12 rows of forget.jsonl"),
        ("measure", [], ""),
    ],
)
def test_other_verbs(answered: RunResult, kind: str, sets: list[str], said: str) -> None:
    known = {**answered.sets, "learn": answered.sets["forget"].model_copy(update={"n": 1})}
    files = {"learn": "new.jsonl", "forget": "forget.jsonl"}
    run = answered.model_copy(
        update={"kind": kind, "request": None, "sets": {n: known[n] for n in sets}, "plan": {"files": files}}
    )
    assert what_was_asked(run) == said


def test_the_cost_is_in_positions_beside_the_oracle_s(answered: RunResult, images: RunResult) -> None:
    # 124,800 of 5,120,000 are 2.4375 %.
    assert spent(answered) == "124\u202f800 token positions, 2.4\u00a0% of what training the oracle took"
    alone = {name: cost for name, cost in answered.cost.items() if name != "oracle_training"}
    assert spent(answered.model_copy(update={"cost": alone})) == "124\u202f800 token positions"
    assert spent(images) == "124\u202f800 images"
    assert spent(answered.model_copy(update={"cost": {}})) == ""
    preparing = CostRow(seconds=1, tokens=200, peak_bytes=1)
    assert spent(images.model_copy(update={"cost": {**images.cost, "preparing": preparing}})).startswith("125\u202f000")
