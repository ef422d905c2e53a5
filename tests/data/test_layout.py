"""What is said of columns on the command line, and what of it no source could use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout, Rows, check_used, parse_columns
from palimpsest.errors import DataError
from palimpsest.records import Completion


def test_columns_as_they_are_typed() -> None:
    assert parse_columns([]) == {}
    assert parse_columns(["prompt=question", " subject = the=person "]) == {
        "prompt": "question",
        "subject": "the=person",
    }


@pytest.mark.parametrize(
    ("assignments", "problem"),
    [
        (["prompt"], "--column 'prompt'; accepted: OURS=YOURS, such as prompt=question"),
        (["=question"], "--column '=question'; accepted: OURS=YOURS"),
        (["prompt="], "--column 'prompt='; accepted: OURS=YOURS"),
        (["promt=question"], "--column promt=question: unknown name 'promt'; did you mean 'prompt'? accepted: complet"),
        (["question=prompt"], "the other way round: prompt=question"),
        (["prompt=q", "prompt=question"], "'prompt' is given twice ('q' and 'question'); keep one"),
        (["prompt=q", "text=q"], "column 'q' is given to prompt and text; accepted: one name per column"),
    ],
)
def test_an_assignment_that_is_none(assignments: list[str], problem: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_columns(assignments)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_both_named_and_left_out() -> None:
    with pytest.raises(DataError, match="column 'q' is to be the prompt .* and to be left out"):
        Layout({"prompt": "q"}, frozenset({"q"}))
    with pytest.raises(DataError, match="unknown name 'promt'"):
        Layout({"promt": "q"})


def test_what_one_source_uses_is_enough() -> None:
    layout = Layout({"prompt": "question", "subject": "person"}, split="train")
    check_used(layout, [])
    check_used(
        layout,
        [
            Rows([], mapped=frozenset({"prompt"}), settled=frozenset({"split"})),
            Rows([], mapped=frozenset({"prompt", "subject"})),
        ],
    )


def test_what_no_source_uses_is_refused() -> None:
    seen = [Rows([], columns=("id", "question")), Rows([], columns=("questions", "id"))]
    with pytest.raises(DataError, match=r"--column prompt=qestion: no source has a column 'qestion'; did you mean"):
        check_used(Layout({"prompt": "qestion"}), seen)
    with pytest.raises(DataError, match=r"the columns are: id, question, questions$"):
        check_used(Layout({"prompt": "qestion"}), seen)
    with pytest.raises(DataError, match="split 'train' has nothing to choose from: only dataset folders, Hub"):
        check_used(Layout(split="train"), seen)
    with pytest.raises(DataError, match="revision 'abc' has nothing to choose from: only Hub names have one"):
        check_used(Layout(revision="abc"), seen)


def test_reading_rows_needs_none_of_the_large_libraries() -> None:
    """So that bad rows are refused within a second."""
    code = (
        "import sys; from palimpsest.data.read.examples import read_rows; import palimpsest.data.read.selection; "
        "read_rows([{'text': 'a'}]); "
        "sys.exit(' '.join({'torch', 'datasets', 'pandas', 'pyarrow', 'transformers'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stderr.strip() == ""
    )


def test_a_column_to_leave_out_that_no_source_has_is_a_slip() -> None:
    seen = [Rows([], columns=("id", "text")), Rows([], columns=("text", "note"))]
    check_used(Layout(ignore=frozenset({"note"})), seen)
    with pytest.raises(DataError, match="--ignore-column notes: no source has a column 'notes'; did you mean 'note'?"):
        check_used(Layout(ignore=frozenset({"note", "notes"})), seen)


def test_a_name_of_one_set_comes_before_that_of_all() -> None:
    layout = Layout(columns=parse_columns(["prompt=question", "completion=answer", "paraphrase.prompt=reworded"]))
    assert layout.of("forget").columns == {"prompt": "question", "completion": "answer"}
    assert layout.of("paraphrase").columns == {"prompt": "reworded", "completion": "answer"}
    rows = [{"question": "who?", "answer": "Ann", "reworded": "whose name?"}]
    read = {name: read_rows(rows, layout, name=name) for name in ("forget", "paraphrase")}
    check_used(layout, read.values())
    assert [one.examples[0].content for one in read.values()] == [
        Completion("who?", "Ann"),
        Completion("whose name?", "Ann"),
    ]
    with pytest.raises(DataError, match=r"paraphrase\.prompt.*reworded.*that set was not given"):
        check_used(layout, [read["forget"]])


def test_a_set_that_nobody_gives_is_refused() -> None:
    with pytest.raises(DataError, match="unknown set 'paraphrse'; did you mean 'paraphrase'"):
        parse_columns(["paraphrse.prompt=question"])
