"""Requests by subject, id or class of one pool; rows in memory; the record of what was asked."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pytest

import palimpsest as pal
from palimpsest.companions.marks import own_key
from palimpsest.engine.given import Given
from palimpsest.engine.inputs import read_given
from palimpsest.engine.sections import Encoding
from palimpsest.errors import DataError, PlanError, UsageError
from palimpsest.models.families.causal_lm import Causal
from palimpsest.models.families.seq2seq import SeqToSeq
from palimpsest.report.schema import RunResult
from palimpsest.verbs import arguments as a
from palimpsest.verbs.asked_day import day_of

FAST = {"training": {"learning_rate": 1e-2, "max_steps": 2, "batch_size": 4}, "measuring": {"metrics": ["ma"]}}
CHOSEN = {"forget_subject": ["Ann", "Bob"], "forget_id": "p2", "forget_class": ()}


def rows(clinic, name):
    return [json.loads(line) for line in (clinic / f"{name}.jsonl").read_text().splitlines()]


def forget(clinic, output, source=None, **how):
    return pal.unlearn(clinic / "model", source, output=output, method="grad_diff", plan=FAST, **how)


@pytest.fixture
def by_hand(clinic, tmp_path):
    """The same request with files split by hand: p0, p1, p2 go, nine others stay."""
    pool = rows(clinic, "learn")
    for name, part in (("gone", pool[:3]), ("stay", pool[3:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return forget(clinic, tmp_path / "by-hand", tmp_path / "gone.jsonl", retain=tmp_path / "stay.jsonl")


def values(result):
    return {name: score.by_id for name, score in ((n, m["ma"]) for n, m in result.scores["after"].items())}


def test_a_pool_gives_what_files_split_by_hand_give(clinic, tmp_path, by_hand):
    result = forget(clinic, tmp_path / "pool", data=clinic / "learn.jsonl", **CHOSEN)
    assert result.sets == by_hand.sets
    assert values(result) == values(by_hand)


def test_the_split_is_recorded_by_ids_and_not_by_contents(clinic, tmp_path):
    result = forget(
        clinic, tmp_path / "pool", data=clinic / "learn.jsonl", **CHOSEN, asked_by="Ann Lee", asked_on="2026-03-01"
    )
    split = json.loads((tmp_path / "pool" / "split.json").read_text())
    rows = [pal.Example(name, pal.Text("x")) for name in ("p0", "p1", "p2")]
    assert split["forget_digests"] == [own_key().of(row)[0] for row in rows]
    assert split["retain"] == [f"p{i}" for i in range(3, 12)]
    assert "Hill Road" not in (tmp_path / "pool" / "split.json").read_text()
    asked = result.request
    assert (asked.subjects, asked.ids, asked.asked_by, asked.asked_on) == (
        ("Ann", "Bob"), ("p2",), "Ann Lee", "2026-03-01",
    )  # fmt: skip
    assert RunResult.load(tmp_path / "pool" / "result.json").request == asked
    assert json.loads((tmp_path / "pool" / "plan.json").read_text())["request"]["subjects"] == ["Ann", "Bob"]


def test_what_was_given_to_retain_is_kept_beside_the_rest_and_once(clinic, tmp_path):
    result = forget(
        clinic, tmp_path / "pool", data=clinic / "learn.jsonl", retain=clinic / "retain.jsonl", forget_subject="Ann"
    )
    assert (result.sets["forget"].n, result.sets["retain"].n) == (1, 11)


def test_a_row_that_is_named_and_retained_is_refused(clinic, tmp_path):
    retained = [*rows(clinic, "retain"), rows(clinic, "forget")[0]]
    with pytest.raises(DataError, match="p0"):
        forget(clinic, tmp_path / "pool", data=clinic / "learn.jsonl", retain=retained, forget_subject="Ann")
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize("kind", ["list", "examples", "dataset", "frame"])
def test_rows_in_memory_give_what_the_file_gives(clinic, tmp_path, kind):
    def in_memory(name):
        found = rows(clinic, name)
        if kind == "examples":
            return [pal.Example(r["id"], pal.Completion(r["prompt"], r["completion"]), r["subject"]) for r in found]
        if kind == "dataset":
            return pytest.importorskip("datasets").Dataset.from_list(found)
        return pytest.importorskip("pandas").DataFrame(found) if kind == "frame" else found

    of_file = forget(clinic, tmp_path / "file", clinic / "forget.jsonl", retain=clinic / "retain.jsonl")
    result = forget(clinic, tmp_path / kind, in_memory("forget"), retain=in_memory("retain"))
    assert result.plan_digest == of_file.plan_digest
    assert result.sets == of_file.sets
    assert values(result) == values(of_file)


def test_a_request_is_the_same_wherever_its_pool_was_read_from(clinic, tmp_path):
    pool = clinic / "learn.jsonl"
    first = forget(clinic, tmp_path / "out", data=pool, **CHOSEN, asked_by="Ann Lee")
    again = forget(clinic, tmp_path / "out", data=rows(clinic, "learn"), **CHOSEN, asked_by="Ann Lee")
    assert again.created == first.created
    with pytest.raises(PlanError, match="another plan"):
        forget(clinic, tmp_path / "out", data=pool, **CHOSEN, asked_by="Bob Roe")


def test_measure_takes_rows_in_memory(clinic):
    of_file = pal.measure(clinic / "model", clinic / "forget.jsonl", metrics=["ma"])
    assert pal.measure(clinic / "model", rows(clinic, "forget"), metrics=["ma"]).scores == of_file.scores


def test_a_model_is_asked_with_the_separator_it_was_taught_with(clinic, tmp_path):
    def bare(name):
        return [{**r, "completion": r["completion"].strip()} for r in rows(clinic, name)]

    pal.learn(
        clinic / "model", bare("learn"), output=tmp_path / "taught", plan={**FAST, "encoding": {"separator": " "}}
    )
    as_taught = pal.measure(tmp_path / "taught", bare("forget"), metrics=["ma"]).scores
    joined = Encoding(separator="")
    assert (
        as_taught == pal.measure(tmp_path / "taught", clinic / "forget.jsonl", metrics=["ma"], encoding=joined).scores
    )
    result = pal.unlearn(
        tmp_path / "taught",
        bare("forget"),
        retain=bare("retain"),
        output=tmp_path / "gone",
        method="grad_diff",
        plan=FAST,
    )
    assert result.plan["encoding"]["separator"] == " "
    assert result.scores["before"]["forget"]["ma"].by_id == as_taught["ma"].by_id
    assert not any("separator" in note for note in result.notes)


def test_rows_that_run_into_one_word_are_told_without_their_words(clinic, tmp_path):
    run_on = [{**r, "completion": r["completion"].strip()} for r in rows(clinic, "forget")]
    result = forget(clinic, tmp_path / "out", run_on, retain=clinic / "retain.jsonl")
    (note,) = [note for note in result.notes if "separator" in note]
    assert note.startswith("forget: nothing stands between prompt and completion in 4 of 4 rows")
    assert "Hill" not in note


@pytest.mark.parametrize(("takes", "told"), [(Causal, True), (SeqToSeq, False)])
def test_only_a_model_that_joins_them_is_told_that_they_run_into_one_word(clinic, takes, told):
    run_on = [{**r, "completion": r["completion"].strip()} for r in rows(clinic, "forget")]
    read = read_given(Given(clinic / "model", sets={"forget": run_on}), family=takes())
    assert any("nothing stands between" in note for note in read.notes) is told


def test_columns_of_other_names_and_others_beside_them(clinic, tmp_path):
    def renamed(name):
        return [{"q": r["prompt"], "a": r["completion"], "id": r["id"], "ward": 3} for r in rows(clinic, name)]

    of_file = forget(clinic, tmp_path / "file", clinic / "forget.jsonl", retain=clinic / "retain.jsonl")
    columns = {"prompt": "q", "completion": "a"}
    result = forget(clinic, tmp_path / "own", renamed("forget"), retain=renamed("retain"), columns=columns)
    assert values(result) == values(of_file)
    assert any("ward" in note for note in result.notes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"forget": "forget.jsonl", "data": "learn.jsonl", "forget_id": "p0"}, "--forget and --data were both given"),
        ({"data": "learn.jsonl"}, "say which rows must go"),
        ({"retain": "retain.jsonl", "forget_subject": "Ann"}, "give it with --data"),
        ({"data": "learn.jsonl", "forget_subject": "Anne"}, "Anne.*Ann"),
        ({"data": "learn.jsonl", "forget_id": "p99"}, "p99"),
        ({"data": "learn.jsonl", "forget_class": 3}, "class"),
        ({"data": "learn.jsonl", "forget_subject": 3.5}, "forget_subject holds a float"),
        ({"forget": "forget.jsonl", "retain": "retain.jsonl", "asked_on": "yesterday"}, "YYYY-MM-DD"),
        ({"forget": "forget.jsonl", "retian": "retain.jsonl"}, "unknown argument 'retian'; did you mean 'retain'"),
        ({"forget": "forget.jsonl", "retain": 5}, "int"),
        ({}, "nothing to do"),
    ],
)
def test_a_request_that_cannot_be(clinic, tmp_path, given, words):
    sources = {k: clinic / v if str(v).endswith(".jsonl") else v for k, v in given.items()}
    with pytest.raises(UsageError, match=words):
        forget(clinic, tmp_path / "out", sources.pop("forget", None), **sources)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [pal.learn, pal.unlearn, pal.measure])
def test_a_model_in_memory_is_refused_in_one_line(clinic, tmp_path, verb):
    more = {} if verb is pal.measure else {"output": tmp_path / "out"}
    with pytest.raises(UsageError, match=r"model is a object in memory.*Model.of"):
        verb(object(), clinic / "forget.jsonl", **more)


def test_every_argument_is_named_in_its_docstring():
    for kind in (a.Arguments, a.ForgettingArguments):
        for name in set(kind.__annotations__) - (set() if kind is a.Arguments else set(a.Arguments.__annotations__)):
            assert f"        {name}: " in (kind.__doc__ or ""), name


def test_a_given_date_may_be_a_date():
    assert a.given_by("m", {"forget": "f"}, {"asked_on": date(2026, 3, 1)}).asked_on == "2026-03-01"
    with pytest.raises(PlanError, match="2026-13-01"):
        a.given_by("m", {"forget": "f"}, {"asked_on": "2026-13-01"})


def test_a_day_that_is_still_to_come_is_refused():
    today = date(2026, 3, 1)
    assert day_of("2026-03-02", today=today) == "2026-03-02"  # it is tomorrow elsewhere
    with pytest.raises(PlanError, match="2026-03-03, still to come: this machine has 2026-03-01; accepted"):
        day_of("2026-03-03", today=today)
    with pytest.raises(PlanError, match="9999-12-31, still to come"):
        a.given_by("m", {"forget": "f"}, {"asked_on": "9999-12-31"})


def test_asked_again_without_answers_a_finished_run_loses_them(clinic, tmp_path):
    given = {"data": clinic / "learn.jsonl", "forget_subject": "Ann"}
    words = "Ann lives at"
    assert words in " ".join(answer.expected for answer in forget(clinic, tmp_path / "run", **given).answers)
    assert not forget(clinic, tmp_path / "run", **given, answers=False).answers
    assert not RunResult.load(tmp_path / "run" / "result.json").answers
    for path in (tmp_path / "run").glob("*.[jh]*"):
        assert words not in path.read_text(), path.name


def test_a_row_of_almost_the_same_subject_that_stays_is_in_the_notes(clinic, tmp_path):
    pool = [*rows(clinic, "learn"), {"id": "q", "subject": "ann ", "text": "Ann has a cold."}]
    result = forget(clinic, tmp_path / "pool", data=pool, forget_subject="Ann")
    assert any("'ann ' (1 row)" in note for note in result.notes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"columns": "prompt=question"}, "columns is 'prompt=question'; accepted: a mapping of our name to yours"),
        ({"answers": "no"}, "answers is 'no'; accepted: True or False"),
        ({"threads": "4"}, "threads is '4'; accepted: a whole number"),
        ({"threads": True}, "threads is True; accepted: a whole number"),
        ({"progress": 5}, "progress is 5; accepted: a function"),
        ({"report_to": 5}, "report_to is 5; accepted: names of trackers"),
        ({"split": 5}, "split is 5; accepted: the name of a split"),
        ({"asked_by": ["Ann"]}, r"asked_by is \['Ann'\]; accepted: text"),
        ({"refine": "yes"}, "refine is 'yes'; accepted: True or False"),
        ({"forget_subject": b"Ann"}, "forget_subject holds a bytes; accepted: text"),
    ],
    ids=str,
)  # fmt: skip
def test_an_argument_of_another_kind_is_refused_before_anything_else(tmp_path, given, words):
    with pytest.raises(PlanError, match=words):
        pal.unlearn("nowhere", output=tmp_path / "out", **{"data": [{"text": "a"}], "forget_subject": "Ann", **given})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [({"show": 1.5}, "show is 1.5"), ({"show": "3"}, "show is '3'"), ({"batch_size": "8"}, "batch_size is '8'"),
     ({"metrics": [None]}, "metrics holds a NoneType")],
    ids=str,
)  # fmt: skip
def test_measure_too(clinic, given, words):
    with pytest.raises(PlanError, match=words):
        pal.measure(clinic / "model", clinic / "forget.jsonl", **given)


def test_a_subject_out_of_a_frame_and_a_metric_alone_are_taken(clinic):
    request = a.given_by("m", {}, {"data": [], "forget_subject": np.int64(7), "forget_id": [np.int64(3), "b"]})
    assert (request.selection.subjects, request.selection.ids) == (("7",), ("3", "b"))
    assert list(pal.measure(clinic / "model", clinic / "forget.jsonl", metrics="ma", progress=None).scores) == ["ma"]
