"""Rows in memory; what is neither rows nor a path is one line, never a TypeError."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout
from palimpsest.data.read.memory_rows import describe_source
from palimpsest.errors import DataError
from palimpsest.records import Chat, Completion, Example, Image, Message, Text, TokenIds, content_id

ROW = {"text": "a"}


def two_splits() -> datasets.DatasetDict:
    return datasets.DatasetDict({name: datasets.Dataset.from_list([{"text": name}]) for name in ("a", "b")})


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def test_an_example_is_what_its_row_would_be() -> None:
    for subject in (7, "7", "", None):
        row = {"id": "a", "text": "x", "subject": subject}
        assert read_rows([Example("a", Text("x"), subject)]).examples == read_rows([row]).examples  # type: ignore[arg-type]


def test_contents_and_examples_stay_what_they_are() -> None:
    contents = [
        Text("a"),
        Completion("p", "c"),
        Chat((Message("assistant", "yo"),)),
        TokenIds((1, 2)),
        Image(b"123", (1, 1, 3), "cat", task=4),
    ]
    examples = [Example(str(number), content, "anna") for number, content in enumerate(contents)]
    assert read_rows(examples).examples == examples
    assert [e.content for e in read_rows(contents).examples] == contents
    placed = Example("x", Text("a"), where="people.jsonl, line 3")
    assert [e.where for e in read_rows([placed, ROW | {"id": 1}]).examples] == [
        "people.jsonl, line 3",
        "the list, row 2",
    ]


def test_what_is_not_there_is_none_and_numbers_of_numpy_are_numbers() -> None:
    rows = [{"text": np.str_("a"), "id": np.int64(3), "subject": gone} for gone in (None, float("nan"), pd.NaT, pd.NA)]
    for row in rows:
        assert read_rows([row]).examples == [Example("3", Text("a"))]
    frame = pd.DataFrame({"id": [1, None], "text": ["a", "b"], "subject": [7, None]})
    assert read_rows(frame).examples == [Example("1", Text("a"), "7"), Example(content_id(Text("b")), Text("b"))]
    turns = np.array([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}])
    chat = Chat((Message("user", "hi"), Message("assistant", "yo")))
    assert read_rows(pd.DataFrame({"messages": [turns]})).examples[0].content == chat
    assert read_rows([{"input_ids": np.array([1, 2])}], Layout(token_ids=True)).examples[0].content == TokenIds((1, 2))
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert read_rows([{"image": pixels, "label": np.int64(1)}]).examples[0].content == Image(
        pixels.tobytes(), (2, 2, 3), 1
    )


def test_a_split_is_chosen_from_a_datasetdict() -> None:
    rows = read_rows(two_splits(), Layout(split="b"))
    assert ([e.content for e in rows.examples], rows.settled) == ([Text("b")], {"split"})


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (None, "forget is of type NoneType; accepted: a path or Hub name, a list of dicts or of Examples, a datasets."),
        (3, "forget is of type int; accepted"),
        (b"people.jsonl", "forget is of type bytes; accepted"),
        (ROW, "forget is of type dict; one row is a list of one, [row]; accepted"),
        (Example("a", Text("a")), "one row is a list of one, [row]; accepted"),
        (Text("a"), "forget is of type palimpsest.Text; accepted"),
        ({"a"}, "forget is of type set; accepted"),
        (iter([ROW]), "forget is of type list_iterator; give list(...) of it; accepted"),
        ((row for row in [ROW]), "forget is of type generator; give list(...) of it; accepted"),
        (datasets.Dataset.from_list([ROW]).to_iterable_dataset(), "datasets.IterableDataset; give list(...) of it"),
        (np.array(["a"]), "forget is of type numpy.ndarray; accepted"),
        (pd.Series(["a"]), "forget is of type pandas.Series; accepted"),
        (two_splits(), "the DatasetDict given as forget: has the splits a, b; give one of them, or name a split"),
        ([], "the list given as forget: no rows; accepted: {text} or"),
        ((), "the tuple given as forget: no rows"),
        (["people.jsonl"], "the list given as forget, row 1: 'people.jsonl' is of type str; accepted: a dict or an Ex"),
        ([ROW, None, 3], "row 2: None is of type NoneType; accepted: a dict or an Example; .* (and 1 more bad row)"),
        ([{1: "a"}], "row 1: column 1 is no string"),
        ([{"text": 3.5}], "row 1: text is 3.5"),
        ([ROW, ROW], "row 2: the same content as row 1; remove one, or give both an id"),
        ([Example("a", Text("x"))] * 2, "row 2: id 'a' is already the id of row 1"),
        ([Example("", Text("x"))], "row 1: id is ''; accepted: a string that is not empty"),
        ([Example(3, Text("x"))], "row 1: id is 3; accepted"),
        ([Example("a", Text(""))], "row 1: text is empty"),
        ([Example("a", "x")], "row 1: content is 'x'; accepted: Text, Completion, Chat, TokenIds, Image or "),
        ([Chat((Message("user", "x"),))], "row 1: messages has no turn with role 'assistant'"),
        ([TokenIds((1,))], "row 1: input_ids is [1]; accepted: a list of at least 2"),
        ([Image(b"12", (1, 1, 3), 0)], "row 1: pixels of an Image are b'12'; accepted: 3 bytes, as its shape has"),
        ([Image(b"123", (-1, -1, 3), 0)], "row 1: shape of an Image is (-1, -1, 3); accepted: (height, width, channe"),
        ([Image(b"1234", (2, 2), 0)], "row 1: shape of an Image is (2, 2); accepted"),
        ([Image(b"1234", (1, 1, 4), 0)], "row 1: shape of an Image is (1, 1, 4); accepted"),
        ([Image(np.zeros(3, np.uint8), (1, 1, 3), 0)], "row 1: pixels of an Image are array"),
        ([Image(b"123", (1, 1, 3), None)], "row 1: label is None; accepted: the number of a class, or its name"),
        ([Image(b"123", (1, 1, 3), -1)], "row 1: label is -1; accepted"),
        ([Image(b"123", (1, 1, 3), True)], "row 1: label is True; accepted"),
        ([Chat(None)], "row 1: messages[0] is None; accepted: {role, content}"),
        ([Chat((("user", "x", "y"),))], "row 1: messages[0] is ('user', 'x', 'y'); accepted: {role, content}"),
        ([TokenIds(None)], "row 1: input_ids is None; accepted: a list of at least 2"),
        ([Example("a", Text("x"), ["Ann"])], "row 1: subject is ['Ann']; accepted: a non-empty string or an integer"),
        ([Example("a", Text("x"), "  ")], "row 1: subject is '  '; accepted"),
        ([Example("a", Text("x"), "\ud800")], "row 1: subject holds half of a surrogate pair"),
        ([{"text": "a", "id": 10**5000}], "row 1: id is a number of more than 100 digits"),
        ([{"text": "a", "more": deep(9999)}], "row 1: a value holds lists in lists without end; accepted"),
        (pd.DataFrame([["a", 1]], columns=["text", "text"]), "the DataFrame given as forget: column 'text' appears tw"),
        (pd.DataFrame({0: ["a"]}), "the DataFrame given as forget, header: the columns are '0'; accepted"),
        (pd.DataFrame({"text": ["a", None]}), "the DataFrame given as forget, row 2: text is None"),
        (pd.DataFrame(), "header: there are no columns"),
        (pa.table({"body": ["a"]}), "the Arrow table given as forget, header: no column 'text'; did you mean 'body'?"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_is_no_set_of_rows_is_refused(source: Any, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(source, name="forget")
    assert all(part in str(caught.value) for part in problem.split(" .* "))
    assert "\n" not in str(caught.value)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="the DatasetDict: unknown split 'c'; accepted: a, b"):
        read_rows(two_splits(), Layout(split="c"))


def test_what_a_source_is_called() -> None:
    assert describe_source("people.jsonl:train") == "people.jsonl:train"
    assert describe_source([ROW]) == "1 row in memory (list)"
    assert describe_source(datasets.Dataset.from_list([ROW, ROW])) == "2 rows in memory (datasets.Dataset)"
    assert describe_source(two_splits()) == "2 rows in memory (datasets.DatasetDict)"
    assert describe_source(pd.DataFrame({"text": ["a"] * 3})) == "3 rows in memory (pandas.DataFrame)"
    assert describe_source(iter([])) == "in memory (list_iterator)"
