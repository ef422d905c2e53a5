"""The ledger: what is durable when, what a dead process leaves, the budget."""

from __future__ import annotations

import json

import pytest

from palimpsest.errors import EndpointError, ModelError
from palimpsest.models.query_ledger import QueryLedger


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_intent_is_on_the_disk_before_anything_is_sent_and_an_answer_after(tmp_path):
    path = tmp_path / "queries.jsonl"
    ledger = QueryLedger(path, "e")
    number = ledger.intend(["a", "b"])
    assert lines(path)[-1] == {"asked": ["a", "b"], "number": number}
    ledger.answer(number, {"a": (0.5, 0.5), "b": (1.0, 0.0)})
    assert lines(path)[-1]["answers"] == {"a": [0.5, 0.5], "b": [1.0, 0.0]}
    assert QueryLedger(path, "e").answers == {"a": (0.5, 0.5), "b": (1.0, 0.0)}


def test_what_was_asked_and_not_answered_counts_as_spent(tmp_path):
    path = tmp_path / "queries.jsonl"
    ledger = QueryLedger(path, "e", budget=5)
    ledger.answer(ledger.intend(["a"]), {"a": (1.0, 0.0)})
    ledger.intend(["b", "c"])  # and the process dies
    again = QueryLedger(path, "e", budget=5)
    assert (again.spent, again.lost) == (3, 2)
    again.answer(again.intend(["b", "c"]), {"b": (1.0, 0.0), "c": (1.0, 0.0)})
    with pytest.raises(EndpointError, match=r"budget of 5 queries .* 5 were spent and 1 more are needed"):
        again.intend(["d"])
    assert len(lines(path)) == 6, "what the budget refuses is not written down"


def test_what_was_turned_away_costs_nothing(tmp_path):
    ledger = QueryLedger(tmp_path / "q", "e", budget=1)
    ledger.refuse(ledger.intend(["a"]), "HTTP 429")
    ledger.answer(ledger.intend(["a"]), {"a": (1.0,)})
    assert (ledger.spent, QueryLedger(tmp_path / "q", "e").spent) == (1, 1)


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_line_that_was_torn_is_as_if_it_had_not_been_begun(cut, tmp_path):
    path = tmp_path / "queries.jsonl"
    ledger = QueryLedger(path, "e")
    ledger.answer(ledger.intend(["a"]), {"a": (0.25, 0.75)})
    whole = path.read_bytes()
    ledger.intend(["b"])
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    again = QueryLedger(path, "e")
    torn = not path.read_bytes()[len(whole) :].endswith(b"\n")
    assert again.answers == {"a": (0.25, 0.75)}
    assert again.spent == (1 if torn else 2)
    again.intend(["c"])
    assert QueryLedger(path, "e").spent == again.spent


@pytest.mark.parametrize(("said", "edited"), [("0.25, 0.75", "0.75, 0.25"), ("0.25, 0.75", "0.25"), ("0.75", "NaN")])
def test_answers_that_were_changed_are_refused(said, edited, tmp_path):
    path = tmp_path / "queries.jsonl"
    ledger = QueryLedger(path, "e")
    ledger.answer(ledger.intend(["a"]), {"a": (0.25, 0.75)})
    path.write_text(path.read_text().replace(said, edited))
    with pytest.raises(ModelError, match=r"queries\.jsonl (were changed|is no ledger)"):
        QueryLedger(path, "e")


def test_the_ledger_of_another_endpoint_or_another_file_is_refused(tmp_path):
    path = tmp_path / "queries.jsonl"
    QueryLedger(path, "e").intend(["a"])
    with pytest.raises(ModelError, match="ledger of another endpoint"):
        QueryLedger(path, "other")
    path.write_text("[1]\n")
    with pytest.raises(ModelError, match="no ledger of queries"):
        QueryLedger(path, "e")
