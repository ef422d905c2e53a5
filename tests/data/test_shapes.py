"""Columns by any name: what is taken, what is left out with a note, what is asked back."""

from __future__ import annotations

from typing import Any

import pytest

from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout, Rows, as_arguments
from palimpsest.data.read.shapes import shape_of, shapes_for
from palimpsest.errors import DataError
from palimpsest.records import Chat, Completion, Message, Text


def read(*rows: dict[str, Any], ignore: tuple[str, ...] = (), **columns: str) -> Rows:
    return read_rows(list(rows), Layout(columns, frozenset(ignore)))


def test_columns_have_any_name() -> None:
    row = {"question": "q", "answer": "a", "person": "Ann", "nr": 7}
    rows = read(row, prompt="question", completion="answer", subject="person", id="nr")
    (example,) = rows.examples
    assert (example.id, example.content, example.subject) == ("7", Completion("q", "a"), "Ann")
    assert (rows.notes, rows.mapped) == ((), {"prompt", "completion", "subject", "id"})
    assert rows.columns == ("question", "answer", "person", "nr")


def test_a_named_column_wins_over_one_that_has_our_name() -> None:
    rows = read({"prompt": "no", "question": "q", "completion": "a"}, prompt="question")
    assert rows.examples[0].content == Completion("q", "a")
    assert rows.notes == ("the list: columns left out: prompt",)


def test_a_named_column_that_is_not_there_is_passed_over() -> None:
    rows = read({"prompt": "p", "completion": "a"}, prompt="question", subject="person")
    assert (rows.examples[0].content, rows.mapped) == (Completion("p", "a"), frozenset())


def test_other_columns_are_left_out_with_one_note() -> None:
    rows = read({"text": "a", "person": "Ann", "ward": 3}, {"text": "b", "bed": 1}, {"text": "c", "ward": None})
    assert [e.content for e in rows.examples] == [Text("a"), Text("b"), Text("c")]
    assert rows.notes == (
        "the list: columns left out: person (did you mean subject? columns={'subject': 'person'}), ward, bed",
    )
    assert read({"text": "a", "ward": 3}, ignore=("ward",)).notes == ()
    hint = "subjet (did you mean subject? columns={'subject': 'subjet'})"
    assert read({"text": "a", "subjet": "Ann"}).notes == (f"the list: columns left out: {hint}",)
    assert read({"text": "a", "subjet": "b", "subject": "c"}).notes == ("the list: columns left out: subjet",)


def test_rows_of_others_are_read_as_they_are_meant() -> None:
    empty = read({"instruction": "Say yes.", "input": "", "output": "yes"})
    assert (empty.examples[0].content, empty.notes) == (Completion("Say yes.\n", "yes"), ())
    given = read({"instruction": "Translate.", "input": "oui", "output": "yes"})
    assert given.examples[0].content == Completion("Translate.\n\noui\n", "yes")
    turns = [("system", "be kind"), ("human", "hi"), ("gpt", "yo")]
    talk = read({"conversations": [{"from": who, "value": words} for who, words in turns]})
    assert talk.examples[0].content == Chat(
        (Message("system", "be kind"), Message("user", "hi"), Message("assistant", "yo"))
    )


@pytest.mark.parametrize(
    ("row", "options", "problem"),
    [
        ({"promt": "a", "completion": "b"}, {}, "no column 'prompt'; did you mean 'promt'? then say --column prompt=p"),
        ({"Question": "a", "Answer": "b"}, {}, "then say --column prompt=Question --column completion=Answer; the col"),
        ({"instruction": "a", "response": "b"}, {}, "then say --column prompt=instruction --column completion=respons"),
        ({"alpha": "a"}, {}, "the columns are 'alpha'; accepted: {text} or .* say which is which with --column"),
        ({"prompt": "a"}, {}, "the columns are 'prompt'; accepted"),
        ({}, {}, "there are no columns; accepted"),
        ({"text": "a", "prompt": "b", "completion": "c"}, {},
         "holds {text} and also prompt, completion; accepted: one kind of row, so keep the first with "
         "--ignore-column prompt --ignore-column completion, or leave it out with --ignore-column text"),
        ({"text": "a", "instruction": "b", "output": "c"}, {}, "holds {text} and also instruction, output; accepted"),
        ({"text": "a", "messages": []}, {}, "holds {text} and also messages; accepted"),
        ({"input_ids": [1, 2]}, {}, "column 'input_ids' is read only as ready-made tokens (--token-ids)"),
        ({"q": "a", "a": 3}, {"prompt": "q", "completion": "a"}, "completion is 3; .* (completion is the column 'a')"),
        ({"text": "a", "nr": 1.5}, {"id": "nr"}, "id is 1.5; accepted: .* (id is the column 'nr')"),
        ({"conversations": [{"from": "gpt", "value": ""}]}, {}, "conversations[0].content is empty"),
        ({"conversations": [{"from": "human", "value": "a"}]}, {}, "conversations has no turn with role 'assistant'"),
        ({"conversations": [{"from": "Human", "value": "a"}, {"from": "bing", "value": "b"}]}, {},
         "so nothing would be scored; its roles: 'Human', 'bing'"),
        ({"conversations": [{"from": "gpt", "value": "a", "weight": 0}]}, {}, "[0]: unknown key 'weight'; accepted"),
        ({"conversations": [{"from": 3, "value": "a"}]}, {}, "conversations[0].role is 3; accepted: a string"),
        ({"instruction": "a", "input": 3, "output": "b"}, {}, "input is 3; accepted: a string"),
    ],
)  # fmt: skip
def test_what_makes_no_row_is_asked_back(row: dict[str, Any], options: dict[str, str], problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read(row, **options)
    said = str(caught.value.__cause__)  # as it is told of a file
    assert all(part in said for part in problem.split(" .* "))
    assert str(caught.value) == as_arguments(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "names", "example"),
    [
        (True, ("review", "sentiment"), "text=review"),
        (False, ("review", "sentiment"), "prompt=question"),
        (True, (), "prompt=question"),
    ],
)
def test_what_is_to_be_said_names_a_column_of_ours_that_is_taken(labels, names, example) -> None:
    shapes = shapes_for(token_ids_only=False, cells_only=True, pictures=False, labels=labels)
    with pytest.raises(DataError, match=rf"such as --column {example}$"):
        shape_of(names, shapes)
