"""The first line of a guarded version, and what is counted of its guard."""

from __future__ import annotations

from palimpsest.cli.screen import run_summary
from palimpsest.report.guard_info import FiredRow, GuardInfo, first_line, guarded_lines
from palimpsest.report.page import render
from palimpsest.report.schema import RunResult

LINE = "The weights are unchanged: removing the part 0000-x brings back what it hides."
FIRED = {
    "forget": FiredRow(rows=20, anywhere=20, in_time=19),
    "paraphrase": FiredRow(rows=5, anywhere=4, in_time=3),
    "retain": FiredRow(rows=100, anywhere=2, in_time=1),
}
INFO = GuardInfo(parts=("0000-x",), unchanged=True, keeps=("a direction",), fired=FIRED)
RUN = RunResult(kind="unlearn", method="guard", plan={}, plan_digest="", created="", sets={}, scores={},
                first_line=LINE, guard=INFO)  # fmt: skip


def test_the_first_line_has_the_numbers_with_and_without():
    scores = {"after": {"forget": {"es": 0.0}}, "without": {"forget": {"es": 1.0}}}
    assert first_line(INFO, scores) == f"{LINE[:-1]} (forget es 1.00 without, 0.00 with)."


def test_after_other_work_on_the_weights_it_says_so():
    info = INFO.model_copy(update={"unchanged": False, "parts": ("0000-x", "0001-y")})
    assert first_line(info, {}) == (
        "Part of what is forgotten is only hidden: removing the parts 0000-x, 0001-y brings back what they hide."
    )


def test_it_is_the_first_line_of_the_terminal_the_page_and_the_record():
    assert run_summary(RUN).splitlines()[0] == LINE
    page = render(RUN)
    body = page[page.index("<body>") :]
    assert body.index(LINE) < body.index("<h1>")
    assert RUN.model_dump_json(indent=1).splitlines()[1].strip().startswith('"first_line": "The weights are unchanged')


def test_misses_and_false_alarms_are_counted():
    assert guarded_lines(RUN)[:2] == (
        "Missed when the answer begins: 1 of 20 forget rows, 2 of 5 paraphrase rows.",
        "False alarms, at any token: 2 of 100 retain rows.",
    )
    assert (
        "acts on every text"
        in guarded_lines(RUN.model_copy(update={"guard": INFO.model_copy(update={"fired": {}})}))[0]
    )


def test_a_run_without_guards_has_nothing_of_it_in_its_record():
    plain = RUN.model_copy(update={"first_line": "", "guard": None})
    assert not {"first_line", "guard"} & set(plain.model_dump(mode="json"))
    assert guarded_lines(plain) == ()
