"""Rows without a name of their own are called by their places."""

from __future__ import annotations

from tests.report.conftest import make_answered

from palimpsest.report.page import render
from palimpsest.report.row_places import with_places
from palimpsest.report.schema import RequestInfo
from palimpsest.report.terminal import table

DIGEST = "c3" * 32


def unnamed():
    """A run of which one forget example has no id of its own."""
    result = make_answered()
    old = result.answers[0].id
    text = result.model_dump_json().replace(old, DIGEST)
    return type(result).model_validate_json(text).model_copy(update={"places": {DIGEST: "people.csv:26"}})


def test_a_derived_id_is_its_place_on_page_and_screen_and_stays_in_the_record() -> None:
    result = unnamed()
    assert DIGEST[:8] not in render(result)
    assert render(result).count("people.csv:26") > 1
    assert with_places(result).answers[0].id == "people.csv:26"
    assert "people.csv:26" in with_places(result).scores["after"]["forget"]["ma"].by_id
    assert DIGEST in result.model_dump_json()


def test_the_same_values_under_other_names() -> None:
    result = unnamed()
    shown = with_places(result)
    before, after = (r.scores["after"]["forget"]["ma"].by_id for r in (result, shown))
    assert list(before.values()) == list(after.values())
    assert table(shown).count("\n") == table(result).count("\n")
    learned = make_answered().model_copy(update={"scores": {}})
    assert with_places(learned) is learned


def test_no_id_of_a_forgotten_row_is_on_the_page():
    result = make_answered()
    by_id = result.scores["after"]["forget"]["ma"].by_id
    named = {old: f"Ann Lee {number}" for number, old in enumerate(by_id)}
    text = result.model_dump_json()
    for old, new in named.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    asked = RequestInfo(ids=("Ann Lee 0",), data="people.csv")
    result = type(result).model_validate_json(text)
    plan = {**result.plan, "request": asked.model_dump(mode="json")}
    page = render(result.model_copy(update={"request": asked, "plan": plan}))
    assert "Ann Lee" not in page
    assert "row 1" in page
