"""Tables and claims from rows made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from out_of_the_box.table import claims, numbers, page, pass_rates, relearning_gap, summary


def row(method: str = "icu", *, passed: bool = True, **other: Any) -> dict[str, Any]:
    values = {"world": "260k-knowC", "model": "260k", "data": "tofu", "tune": False, "modality": "text"}
    values |= {"request": "one", "method": method, "seed": 0, "variant": "default", "rates": "searched"}
    values |= {"passed": passed, "broken": [], "verdict": None, "false_pass": False, "wrong_pass": False}
    return {**values, "rows": {"forget": 1, "retain": 46}, "nats_ratio": 1.0, **other}


def test_summary_by_hand() -> None:
    """Errors +0.05 and −0.15: mean 0.10, most 0.15; costs 0.2, 0.3, 0.9: median 0.3; gaps 0.1 and −0.3: mean −0.1."""
    rows = [
        row(level_error=0.05, cost=0.2, seconds=10.0, nats_ratio=1.0, verdict="passed"),
        row(level_error=-0.15, cost=0.9, seconds=30.0, nats_ratio=3.0, verdict="passed", false_pass=True),
        row(passed=False, cost=0.3, seconds=20.0, nats_ratio=2.0, broken=["retain"]),
    ]
    rows[0] |= {"relearned": {"ma": 0.6}, "oracle_relearned": {"ma": 0.5}}
    rows[1] |= {"relearned": {"ma": 0.2}, "oracle_relearned": {"ma": 0.5}}
    expected = ["3", "2 (67 %)", "1", "2", "1", "0.10", "0.15", "0.30", "2.00", "-0.10", "20"]
    assert summary(rows) == expected


def test_what_is_not_there_is_a_dash() -> None:
    assert summary([row(nats_ratio=None)])[5:] == ["–"] * 6
    assert numbers([row(cost=None), row(cost=0.5), row()], "cost") == [0.5]


def test_gap_of_a_single_row_is_none() -> None:
    assert relearning_gap(row(relearned=None, oracle_relearned=None)) is None


def test_pass_rates() -> None:
    rows = [row(), row(passed=False), row("npo", model="1m")]
    assert pass_rates(rows, "method", "model").splitlines()[2:] == ["| icu | 1/2 | – |", "| npo | – | 1/1 |"]


def test_no_rows_no_claims() -> None:
    assert claims([]) == []
    assert claims([row("oracle")]) == []


@pytest.mark.parametrize(("method", "passed", "holds"), [("icu", 9, True), ("icu", 8, False), ("npo", 8, True)])
def test_the_default_method_must_pass_more_often(method: str, passed: int, holds: bool) -> None:
    rows = [row(method, passed=n < passed) for n in range(10)]
    assert claims(rows)[0][1] is holds


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"broken": ["general"]}, "floor"),
        ({"false_pass": True}, "level wrong"),
        ({"cost": 0.5}, "below 1000"),
        ({"cost": 0.3, "rows": {"forget": 9, "retain": 1000}}, "from 1000"),
    ],
)
def test_claims_that_are_missed(other: dict[str, Any], words: str) -> None:
    missed = [sentence for sentence, holds in claims([row(**other)]) if not holds]
    assert len(missed) == 1
    assert words in missed[0]


@pytest.mark.parametrize("other", [{"tune": True}, {"rates": "papers"}, {"method": "random_edit"}])
def test_claims_are_about_our_rates_on_worlds_for_showing(other: dict[str, Any]) -> None:
    assert claims([row(passed=False, broken=["retain"], **other)] if "method" not in other else [row(**other)]) == []


def test_a_broken_floor_counts_in_every_variant() -> None:
    assert any("floor" in words and not holds for words, holds in claims([row(variant="lora", broken=["retain"])]))


def test_page_has_every_part() -> None:
    rows = [row(), row("npo", rates="papers"), row("oracle"), row(variant="lora"), row("npo", error="it diverged")]
    text = page(rows)
    for part in ("## Rates: searched", "## Rates: papers", "With other files", "Beside them", "it diverged", "holds"):
        assert part in text
