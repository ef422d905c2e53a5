"""Invented patients and general text: stable ids, nothing shared between sets that must be disjoint."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from palimpsest.demo.patients import DemoFiles, general_text, patients, write
from palimpsest.errors import DataError
from palimpsest.records import Completion, Text

FIELDS = {"diagnosis", "medicine", "address", "telephone", "kin", "insurance"}


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ids(path: Path) -> set[str]:
    return {row["id"] for row in rows(path)}


def subjects(path: Path) -> set[str]:
    return {row["subject"] for row in rows(path)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write(tmp_path_factory.mktemp("demo"), seed=1, per_group=4, num_forget=3, num_general=80)


def test_every_patient_has_every_field_once() -> None:
    examples = patients(5, seed=0)
    assert Counter(e.subject for e in examples) == {f"patient-{n:04d}": 6 for n in range(1, 6)}
    assert {e.id for e in examples} == {f"p{n:04d}-{field}" for n in range(1, 6) for field in FIELDS}


def test_the_prompt_names_the_patient_and_the_answer_begins_with_a_blank() -> None:
    for example in patients(8, seed=3):
        assert isinstance(example.content, Completion)
        first = example.content.completion.split()[0]
        assert f" {first} " in example.content.prompt.replace("?", " ")
        assert re.fullmatch(r" \S.*[^ ]\.", example.content.completion)


def test_names_are_unique() -> None:
    prompts = [e.content.prompt for e in patients(300, seed=0) if isinstance(e.content, Completion)]
    assert len(set(prompts)) == len(prompts) == 1800


def test_same_seed_same_rows_and_more_patients_change_nothing_before() -> None:
    assert patients(3, seed=7) == patients(3, seed=7) == patients(6, seed=7)[:18]
    assert patients(3, seed=7) != patients(3, seed=8)


def test_telephone_numbers_are_fictional() -> None:
    answers = [e.content.completion for e in patients(50, 0) if e.id.endswith("telephone")]  # type: ignore[union-attr]
    assert all(re.search(r" [2-9]\d\d-555-01\d\d\.$", answer) for answer in answers)


def test_general_text_is_distinct_and_names_nobody() -> None:
    examples = general_text(400, seed=0)
    texts = [e.content.text for e in examples if isinstance(e.content, Text)]
    assert len(set(texts)) == 400
    assert all(e.subject is None for e in examples)
    names = {
        word
        for e in patients(40, seed=0)
        if isinstance(e.content, Completion) and e.id.endswith("kin")
        for word in re.findall(r"of (\w+) (\w+)\?", e.content.prompt)[0]
    }
    assert not names & set(re.findall(r"\w+", " ".join(texts)))
    assert "{" not in "".join(texts)


@pytest.mark.parametrize("count", [0, -1, 10_000])
def test_patients_out_of_range_are_refused(count: int) -> None:
    with pytest.raises(DataError, match=rf"num_patients = {count} refused; accepted: 1 to 9999"):
        patients(count, seed=0)


def test_too_many_texts_are_refused() -> None:
    with pytest.raises(DataError, match="num_texts = 2001 refused; accepted: 1 to 2000"):
        general_text(2001, seed=0)


@pytest.mark.parametrize("num_forget", [1, 5])
def test_number_to_forget_out_of_range_is_refused(tmp_path: Path, num_forget: int) -> None:
    with pytest.raises(DataError, match=f"num_forget = {num_forget} refused; accepted: 2 to per_group = 4"):
        write(tmp_path / "demo", per_group=4, num_forget=num_forget)
    assert not (tmp_path / "demo").exists()


def test_groups_and_holdout_share_no_patient(files: DemoFiles) -> None:
    a, b, holdout = subjects(files.group_a), subjects(files.group_b), subjects(files.holdout)
    assert len(a) == len(b) == len(holdout) == 4
    assert len(a | b | holdout) == 12


def test_forget_and_retain_cut_the_groups_in_two(files: DemoFiles) -> None:
    forget, retain = ids(files.forget), ids(files.retain)
    assert not forget & retain
    assert forget | retain == ids(files.group_a) | ids(files.group_b)
    assert not subjects(files.forget) & subjects(files.retain), "a patient is forgotten whole"


def test_patients_of_both_groups_are_forgotten(files: DemoFiles) -> None:
    forgotten = subjects(files.forget)
    assert len(forgotten) == 3
    assert len(forgotten & subjects(files.group_a)) == 2
    assert len(forgotten & subjects(files.group_b)) == 1


def test_replay_of_group_b_is_group_a_and_general_text_that_was_trained_on(files: DemoFiles) -> None:
    replay = ids(files.replay_b)
    assert ids(files.group_a) < replay
    assert len(replay - ids(files.group_a)) == 3 * 24
    assert replay - ids(files.group_a) < ids(files.general)


def test_general_holdout_is_disjoint(files: DemoFiles) -> None:
    seen = {row["text"] for row in rows(files.general)}
    unseen = {row["text"] for row in rows(files.general_holdout)}
    assert (len(seen), len(unseen)) == (80, 8)
    assert not seen & unseen


def test_writing_again_gives_the_same_bytes(files: DemoFiles, tmp_path: Path) -> None:
    again = write(tmp_path, seed=1, per_group=4, num_forget=3, num_general=80)
    for name in DemoFiles.__slots__:
        assert getattr(again, name).read_bytes() == getattr(files, name).read_bytes()
