"""What a notebook shows of a run: verdict, request, scores, gates; every text escaped."""

from __future__ import annotations

import re
from html import unescape

from palimpsest.report.inline import inline
from palimpsest.report.schema import RequestInfo, RunResult
from palimpsest.verbs.in_memory import Run


def test_verdict_scores_and_gates_are_there(answered: RunResult) -> None:
    shown = inline(answered)
    text = unescape(re.sub(r"<[^>]+>", " ", shown))
    assert answered.verdict is not None
    assert all(" ".join(gate.sentence.split()) in " ".join(text.split()) for gate in answered.verdict.gates)
    assert shown.count("<tr>") == 1 + sum(len(metrics) for metrics in answered.scores["before"].values())
    assert "<td>0.04 [0.04, 0.05]</td>" in shown


def test_names_are_text(answered: RunResult) -> None:
    request = RequestInfo(asked_by="<script>alert(1)</script>", subjects=("<b>Bo",))
    shown = inline(answered.model_copy(update={"request": request}))
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "&lt;b&gt;Bo" in shown


def test_a_run_without_a_verdict_has_its_scores(answered: RunResult) -> None:
    shown = inline(answered.model_copy(update={"verdict": None, "kind": "measure"}))
    assert shown.startswith("<ul>")
    assert "<table>" in shown


def test_a_run_in_memory_shows_itself(answered: RunResult) -> None:
    run = Run.model_validate(answered.model_dump())
    assert run._repr_html_() == inline(answered)
