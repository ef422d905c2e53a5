from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from palimpsest.report.page import render, save_html
from palimpsest.report.schema import RunResult
from palimpsest.report.view import MAX_EXAMPLES

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Strict(HTMLParser):
    """Every opened tag is closed, in order; collects text, tags and rows."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def words(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(read(page).text))


def test_every_tag_is_closed_and_ids_are_unique(result: RunResult, bare: RunResult) -> None:
    for run in (result, bare):
        ids = [attrs["id"] for _, attrs in read(render(run)).tags if "id" in attrs]
        assert len(ids) == len(set(ids))


def test_nothing_is_fetched_and_nothing_runs(result: RunResult) -> None:
    page = render(result)
    assert "://" not in page
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in read(page).tags}


def test_every_number_of_the_table_appears(result: RunResult) -> None:
    text = words(render(result))
    for sets in result.scores.values():
        for metrics in sets.values():
            for score in metrics.values():
                assert f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]" in text


def test_verdict_says_word_and_sentence_once(result: RunResult) -> None:
    text = words(render(result))
    assert "Failed 1 of 3 gates failed (retain es at least 0.98 times its value before)." in text
    for gate in result.verdict.gates if result.verdict else ():
        assert gate.gate in text
        assert gate.sentence in text


def test_the_verdict_is_said_plainly_and_what_to_do_next_with_it(result: RunResult) -> None:
    value = result.model_dump(mode="json")
    value["verdict"]["plain"] = "Failed: the model lost part of what had to stay (ES 0.97 before, 0.91 after)."
    value["advice"] = ["Give a lower rate (--lr): what had to stay was lost."]
    text = words(render(RunResult.model_validate(value)))
    plain = "Failed The model lost part of what had to stay (ES 0.97 before, 0.91 after)."
    gates = "1 of 3 gates failed (retain es at least 0.98 times its value before)."
    assert f"{plain} {gates} What to do next" in text
    assert "What to do next Give a lower rate (--lr): what had to stay was lost." in text
    assert "What to do next" not in words(render(result))


@pytest.mark.parametrize(
    ("origin", "said"),
    [("unknown", "Oracle of unknown origin: no record says what it learned"), ("base", "The oracle is the base as it")],
)
def test_an_oracle_that_was_not_retrained_by_us_is_said_before_the_verdict(
    result: RunResult, origin: str, said: str
) -> None:
    page = render(result.model_copy(update={"oracle_origin": origin}))
    assert 0 < page.index(said) < page.index('aria-label="Verdict"')
    assert said not in render(result.model_copy(update={"oracle_origin": "recorded"}))


def test_a_run_that_was_not_judged_says_what_was_looked_at(result: RunResult) -> None:
    text = words(render(result.model_copy(update={"kind": "learn", "verdict": None})))
    assert "Reported, not judged: forget es 0.98 before, 0.04 after, 0.03 oracle; forget ma 0.99" in text
    assert "give --retain or --general" in text


def test_the_level_is_explained_with_its_number(result: RunResult) -> None:
    text = words(render(result))
    assert "MA 0.59 is what a model scores that never saw these rows (the oracle, retrained without them)." in text
    assert "After the run it is 0.56, before it was 0.99." in text


def test_cost_names_seconds_tokens_memory_and_share_of_the_oracle(result: RunResult) -> None:
    text = words(render(result))
    # 124,800 positions of 5,120,000 are 2.4375 %.
    assert "Training took 2.4 % of the token positions that training the oracle took." in text
    assert "training 13.0 124 800 412 " in text.replace("\u202f", " ")


def test_page_says_what_it_does_not_prove(result: RunResult) -> None:
    text = words(render(result))
    for sentence in (
        "carries no certificate",
        "Only the metrics listed (es, ma, el_10, ppl) were measured",
        "relearning on related text, quantising the weights or rephrasing the questions, were not run",
        "not evidence of compliance with any law",
        "The forget set has 16 rows.",
    ):
        assert sentence in text
    assert "No retrained model" not in text


def test_without_oracle_holdout_curve_and_cost(result: RunResult) -> None:
    scores = {
        column: {name: metrics for name, metrics in sets.items() if name != "holdout"}
        for column, sets in result.scores.items()
        if column != "oracle"
    }
    page = render(result.model_copy(update={"scores": scores, "curve": (), "cost": {}, "verdict": None, "notes": ()}))
    text = words(page)
    assert "No retrained model (oracle) was measured" in text
    assert "No holdout set was measured" in text
    assert "Before, after" in text
    assert "On the way" not in text
    assert "Cost" not in text


def test_a_bare_measurement(bare: RunResult) -> None:
    text = words(render(bare))
    assert "Measurement" in text
    assert "0.75" in text
    assert "n 2, 1 unscored" in text.replace("\u00a0", " ")
    assert "certificate" not in text


def test_nothing_measured(bare: RunResult) -> None:
    assert "Nothing was measured." in words(render(bare.model_copy(update={"scores": {}})))


HOSTILE = '<script>alert("x")</script>'


def test_everything_from_the_user_is_escaped(result: RunResult) -> None:
    value = result.model_dump(mode="json")
    row = value["scores"]["after"]["forget"]["es"]
    row["by_id"] = {HOSTILE: 0.5}
    row["unit"] = HOSTILE
    value["scores"]["after"][HOSTILE] = {HOSTILE: row}
    value["sets"][HOSTILE] = {"n": 1, "digest": HOSTILE}
    value["curve"][0]["values"][HOSTILE] = 1.0
    value["verdict"]["sentence"] = value["verdict"]["gates"][0]["sentence"] = HOSTILE
    value |= {"method": HOSTILE, "created": HOSTILE, "stopped": HOSTILE, "notes": [HOSTILE], "plan_digest": HOSTILE}
    value |= {
        "plan": {HOSTILE: HOSTILE},
        "environment": {HOSTILE: HOSTILE},
        "cost": {HOSTILE: value["cost"]["training"]},
    }
    page = render(RunResult.model_validate(value))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert {"script"}.isdisjoint(tag for tag, _ in read(page).tags)


def test_the_per_example_table_is_capped_and_says_so(make_run: Callable[[int], RunResult]) -> None:
    page = render(make_run(1203))
    assert f"The first {MAX_EXAMPLES} of 1203 examples" in page
    assert page.count('class="id">row ') == MAX_EXAMPLES
    assert render(make_run(16)).count('class="id">row ') == 16


def test_headers_have_scopes_and_figures_have_names(result: RunResult) -> None:
    tags = read(render(result)).tags
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    assert all(attrs.get("aria-label") for tag, attrs in tags if tag == "svg" and attrs.get("role") == "img")
    assert all(attrs.get("aria-hidden") or attrs.get("role") == "img" for tag, attrs in tags if tag == "svg")
    # 3 metrics on forget and holdout share 4 bar panels; EL, MA, ppl and active examples make 4 curves.
    assert sum(tag == "figure" for tag, _ in tags) == 4 + 4


@pytest.mark.parametrize("outcome", ["passed", "failed", "undecided"])
def test_outcomes_differ_in_shape_not_only_in_colour(result: RunResult, outcome: str) -> None:
    value = result.model_dump(mode="json")
    value["verdict"] |= {"outcome": outcome, "gates": []}
    page = render(RunResult.model_validate(value))
    shape = {"passed": '<circle class="mark"', "failed": '<rect class="mark"', "undecided": 'd="M12 1.8'}[outcome]
    assert shape in page
    assert outcome.capitalize() in page


def test_save_html_writes_the_rendered_page(result: RunResult, tmp_path: Path) -> None:
    save_html(result, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(result)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
