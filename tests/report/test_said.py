"""Answers on a terminal: readable, within the width, and harmless."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from palimpsest.cli.screen import run_summary
from palimpsest.printed import printable
from palimpsest.report.said import LONGEST, answers_text, cells, examples_text, heading
from palimpsest.report.schema import AnswerRow, RunResult


def answer(**more) -> AnswerRow:
    fields = {
        "id": "k018",
        "subject": "Ann Meyer",
        "standing": "worst",
        "prompt": "Where does Ann Meyer live?",
        "expected": " In Basel.",
        "said": {"before": " In Basel.", "after": " In a house.", "oracle": " In the town."},
    }
    return AnswerRow(**(fields | more))


def test_an_answer_reads_like_this() -> None:
    assert answers_text([answer(), answer(id="k002", subject=None, standing="median", said={"after": "x"})]) == [
        "  worst   'k018' (Ann Meyer)",
        "    asked     Where does Ann Meyer live?",
        "    the row   In Basel.",
        "    before    In Basel.",
        "    after     In a house.",
        "    oracle    In the town.",
        "  median  'k002'",
        "    asked     Where does Ann Meyer live?",
        "    the row   In Basel.",
        "    after     x",
    ]


def test_a_plain_list_has_the_scores() -> None:
    lines = examples_text([answer(standing="", said={"the model": "x"})], {"k018": {"ma": 0.625, "el_10": None}}, 100)
    assert lines == [
        "",
        "'k018' (Ann Meyer): ma 0.62, el_10 unscored",
        "    asked       Where does Ann Meyer live?",
        "    the row     In Basel.",
        "    the model   x",
    ]


def test_long_answers_are_wrapped_under_themselves() -> None:
    assert answers_text([answer(said={"after": "In a house that " * 4})], width=50)[3:] == [
        "    after     In a house that In a house that In a",
        "              house that In a house that",
    ]


def test_a_very_long_prompt_keeps_its_beginning_and_its_end() -> None:
    text = " ".join(answers_text([answer(prompt="Start " + "blah " * 500 + "what then?")]))
    assert "Start blah" in text
    assert "[...]" in text
    assert "what then?" in text
    assert len(text) < 3 * LONGEST


def test_what_moves_a_cursor_or_hides_a_text_is_escaped() -> None:
    assert printable("a\x1b[2J\r\n\t\x00\x9b\u202e\u2028\ud800\ue000") == (
        r"a\x1b[2J\r\n\t\x00\x9b\u202e\u2028\ud800\ue000"
    )
    assert printable("Zürich 東京 é नमस्ते") == "Zürich 東京 é नमस्ते"


def test_an_id_that_is_a_digest_is_short() -> None:
    assert answers_text([answer(id="0f" * 32, subject=None)])[0] == "  worst   '0f0f0f0f..'"


anything = st.text(st.characters(), max_size=300)


@given(anything, anything, anything, st.integers(40, 100))
def test_any_answer_is_printed_within_the_width_without_control_characters(prompt, said, subject, width) -> None:
    row = answer(prompt=prompt, said={"after": said}, subject=subject, id=subject or "x")
    for line in [*answers_text([row], width), *examples_text([row], {row.id: {"ma": 0.5}}, width)]:
        assert cells(line) <= width
        assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in line)


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=LONGEST))
def test_wrapping_loses_nothing_but_blanks(text: str) -> None:
    row = answer(prompt=text, said={})
    shown = answers_text([row], 60)[1:-1]
    assert "".join("".join(line[14:] for line in shown).split()) == "".join(printable(text).split())


def test_the_summary_shows_answers_behind_the_table(result: RunResult) -> None:
    with_answers = result.model_copy(update={"answers": (answer(),)})
    lines = run_summary(with_answers).splitlines()
    place = lines.index(heading(with_answers))
    assert lines[place + 1] == "  worst   'k018' (Ann Meyer)"
    assert place < lines.index("training ended: all examples pass")
    assert "\n".join(lines[: place - 1] + lines[place + 7 :]) == run_summary(result)


def test_of_a_learning_run_the_worst_is_the_least_known(result: RunResult) -> None:
    sets = {"learn": result.sets["forget"]}
    assert heading(result.model_copy(update={"sets": sets})).endswith("(worst: the least known)")
