from __future__ import annotations

import json
from pathlib import Path

import pytest

from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.scenarios.interleaved import interleaved
from palimpsest.data.streams.tasks import split_by_subject
from palimpsest.errors import DataError, PlanError

PEOPLE = split_by_subject({f"{name}-{row}": name for name in ("Ada", "Bo", "Cy") for row in range(4)})
MARKED = frozenset(f"{name}-{row}" for name in ("Ada", "Bo", "Cy") for row in (3, 1))


def test_people_are_learned_and_their_marked_rows_unlearned_in_turn() -> None:
    stream = interleaved(PEOPLE, "LLULUU", forget=MARKED)
    assert [r.name for r in stream.requests] == [
        "learn Ada",
        "learn Bo",
        "unlearn Ada",
        "learn Cy",
        "unlearn Bo",
        "unlearn Cy",
    ]
    assert stream.requests[2].forget == ("Ada-1", "Ada-3")
    assert len(stream.remaining_after(3)) == 6
    assert stream.known_after(5) == tuple(i for task in PEOPLE for i in task.ids if i not in MARKED)
    assert RequestStream.from_json(stream.to_json()) == stream


def test_a_group_may_stay_whole() -> None:
    stream = interleaved(PEOPLE, "LULL", forget={"Ada-0"})
    assert set(stream.pool) - set(stream.known_after(3)) == {"Ada-0"}


@pytest.mark.parametrize("pattern", ["", "LL", "LLLL", "ULLL", "LUULL", "LLLUUUU", "LLLX", "lllu"])
def test_patterns_that_do_not_fit_are_refused(pattern: str) -> None:
    with pytest.raises(
        PlanError, match=rf"the pattern '{pattern}' does not fit 3 groups; accepted: one L for each group"
    ):
        interleaved(PEOPLE, pattern, forget=MARKED)


def test_ids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 ids to forget are in no group \(first: 'Di-1'\); accepted: ids of one"):
        interleaved(PEOPLE, "LLLU", forget={*MARKED, "Eve-1", "Di-1"})
    with pytest.raises(DataError, match="group 'Bo' has no id to forget; accepted: at least one where U comes"):
        interleaved(PEOPLE, "LLLUU", forget={"Ada-0", "Cy-0"})


@pytest.mark.shared
def test_people_of_the_real_data(shared_data: Path) -> None:
    lines = (shared_data / "knowundo-privacy" / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {str(n): json.loads(line) for n, line in enumerate(lines)}
    people = split_by_subject({i: row["person"] for i, row in rows.items()})[:3]
    stream = interleaved(people, "LLULUU", forget={i for p in people for i in p.ids if rows[i]["kind"] == "unlearn"})
    assert len(stream) == 6
    for j in (2, 4, 5):
        assert {rows[i]["kind"] for i in stream.requests[j].forget} == {"unlearn"}
    assert {rows[i]["kind"] for i in stream.known_after(5)} == {"retain"}
