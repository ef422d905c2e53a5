"""The cards of what the models say, on the page."""

from __future__ import annotations

from palimpsest.report.cards import EMPTY, cards
from palimpsest.report.page import render
from palimpsest.report.schema import RunResult


def test_a_card_says_what_was_asked_what_it_holds_and_who_says_what(answered: RunResult) -> None:
    card = cards(answered)[0]
    assert card.title == ("Worst example", "still known best after the run")
    assert (card.id, card.subject) == ("row-0003", "Ada Morris")
    assert card.scores.startswith("MA 0.99 before, 0.56 after, 0.59 oracle")
    assert [(line.speaker, line.remark) for line in card.lines] == [
        ("prompt", ""),
        ("the row holds", ""),
        ("before", "word for word"),
        ("after", ""),
        ("oracle", ""),
    ]
    assert card.lines[1].words == "Ada Morris takes metformin, 500 mg twice a day."


def test_nothing_said_is_said_and_long_words_are_whole(answered: RunResult) -> None:
    median, best = cards(answered)[1:]
    assert median.lines[3].words == best.lines[3].words == EMPTY
    assert median.id == "abababab.."
    assert [line.long for line in median.lines] == [True, False, True, False, False]
    assert median.lines[0].words == answered.answers[1].prompt
    assert median.lines[1].words == "two\n   lines"


def test_images_are_named_and_right_or_not(images: RunResult) -> None:
    (card,) = cards(images)
    assert [(line.speaker, line.words, line.remark) for line in card.lines[1:]] == [
        ("its class", "cat", ""),
        ("before", "cat (0.98)", "right"),
        ("after", "dog (0.51)", ""),
    ]
    assert card.scores == "prob 0.98 before, 0.61 after"


def test_what_was_learned_is_worst_where_it_is_known_least(answered: RunResult) -> None:
    learned = answered.model_copy(update={"kind": "learn", "sets": {"learn": answered.sets["forget"]}})
    assert cards(learned)[0].title[1] == "known least after the run"


def test_the_page_keeps_whitespace_escapes_and_says_who_may_read_it(answered: RunResult) -> None:
    page = render(answered)
    assert ">two\n   lines</dd>" in page
    assert "&lt;i&gt;x&lt;/i&gt;" in page
    assert "<i>x" not in page
    assert "keep this page as private as the request" in page
    assert "--no-answers" in page
    assert page.index('aria-label="Verdict"') < page.index('class="brief"') < page.index("Worst example")
    assert page.index("Best example") < page.index('id="next"') < page.index('id="scores"')


def test_without_answers_one_line_and_no_section(result: RunResult, bare: RunResult) -> None:
    page = render(result)
    assert page.count("What the model says is not on this page") == 1
    assert 'id="said"' not in page
    assert "What the model says" not in render(bare)


def test_what_cannot_be_seen_is_shown_as_an_escape(answered: RunResult) -> None:
    answer = answered.answers[0].model_copy(update={"said": {"after": "a\u202eb\x1b[2J\tc\nd"}})
    (card,) = cards(answered.model_copy(update={"answers": (answer,)}))
    assert card.lines[2].words == "a\\u202eb\\x1b[2J\tc\nd"


def test_no_name_brings_a_code_onto_the_page(answered: RunResult) -> None:
    evil = "Ann\x1b[2J\u202e"
    info = answered.request.model_copy(update={"subjects": (evil,), "asked_by": evil, "data": evil})  # type: ignore[union-attr]
    answer = answered.answers[0].model_copy(update={"id": evil, "subject": evil})
    page = render(answered.model_copy(update={"request": info, "answers": (answer,), "notes": (evil,)}))
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert page.count("Ann\\x1b[2J\\u202e") >= 5
