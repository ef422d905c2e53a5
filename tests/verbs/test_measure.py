"""``measure`` with answers: what is shown is what was measured and what the model says."""

from __future__ import annotations

import pytest

import palimpsest as pal
from palimpsest.audit.asking import say
from palimpsest.data.read.examples import read_examples
from palimpsest.engine.inputs import encode_set
from palimpsest.engine.sections import Encoding
from palimpsest.models.load import load


def test_nothing_is_asked_unless_it_is_wanted(clinic):
    assert pal.measure(clinic / "model", clinic / "forget.jsonl", metrics=["prob"]).answers == ()


def test_so_many_from_the_most_known_down(clinic):
    found = pal.measure(clinic / "model", clinic / "retain.jsonl", metrics=["prob"], show=3)
    known = sorted(found.scores["prob"].by_id, key=lambda i: -found.scores["prob"].by_id[i])
    assert [answer.id for answer in found.answers] == [known[0], known[3], known[7]]
    [most] = pal.measure(clinic / "model", clinic / "retain.jsonl", metrics=["prob"], show=1).answers
    assert most == found.answers[0]


def test_more_than_there_are_is_all_with_what_the_model_says(clinic):
    found = pal.measure(clinic / "model", clinic / "forget.jsonl", metrics=["ma"], show=99)
    loaded = load(clinic / "model")
    encoded = encode_set(read_examples(clinic / "forget.jsonl"), loaded, Encoding())
    assert {answer.id: answer.said["model"] for answer in found.answers} == say(loaded, encoded, encoded.ids)
    first = next(answer for answer in found.answers if answer.id == "p0")
    assert (first.subject, first.standing) == ("Ann", "")
    assert (first.prompt, first.expected) == ("Where does Ann live?", " Ann lives at 0 Hill Road.")


def test_showing_changes_no_score(clinic):
    plain, shown = (pal.measure(clinic / "model", clinic / "forget.jsonl", metrics=["ma"], show=k) for k in (0, 2))
    assert plain.scores == shown.scores


def test_less_than_none_is_refused(clinic):
    with pytest.raises(pal.PlanError, match="show is -1; accepted: 0 or more examples"):
        pal.measure(clinic / "no such model", clinic / "forget.jsonl", show=-1)


def test_ready_made_tokens_are_shown_as_the_tokenizer_reads_them(clinic, tmp_path):
    loaded = load(clinic / "model")
    ids = loaded.tokenizer("The visit was short.")["input_ids"]
    (tmp_path / "ids.jsonl").write_text(f'{{"id": "a", "input_ids": {ids}}}\n')
    [answer] = pal.measure(clinic / "model", tmp_path / "ids.jsonl", metrics=["ma"], token_ids=True, show=1).answers
    assert answer.prompt + answer.expected == "The visit was short."
