"""docs/families.md is what the code and the measured rows say today."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from palimpsest import methods

ROOT = Path(__file__).parents[1]


def families():
    spec = importlib.util.spec_from_file_location("families_of_docs", ROOT / "docs" / "families.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current_and_names_every_method_once():
    made = families().page()
    assert (ROOT / "docs" / "families.md").read_text(encoding="utf-8") == made, (
        "python docs/families.py docs/families.md"
    )
    listed = made.split("## The families")[1]
    assert all(listed.count(f"\n| `{name}` |") == 1 for name in methods.names())


def test_a_run_got_there_only_near_the_oracle_with_what_stays_kept():
    passes = families().passes
    oracle, before = {"forget es": 0.1}, {"retain es": 1.0, "general ppl": 5.0}
    row = {"forget es": 0.2, "retain es": 0.9, "general ppl": 5.5}
    assert passes(row, oracle, before)
    for key, value in {"forget es": 0.21, "retain es": 0.89, "general ppl": 5.6}.items():
        assert not passes({**row, key: value}, oracle, before)


def test_the_choice_is_ordered_by_how_often_then_by_positions():
    beside = [
        {"world": "people", "seed": 0, "method": "oracle", "forget es": 0.1, "retain es": 1.0, "general ppl": 5.0},
        {"world": "people", "seed": 0, "method": "nothing", "forget es": 1.0, "retain es": 1.0, "general ppl": 5.0},
    ]
    row = {"world": "people", "seed": 0, "retain es": 1.0, "general ppl": 5.0, "seconds": 1.0, "relearned es": 0.3}
    rows = [
        {**row, "method": "npo", "forget es": 0.1, "positions": 20},
        {**row, "method": "icu", "forget es": 0.1, "positions": 10},
        {**row, "method": "kl", "forget es": 0.9, "positions": 1},
        {**row, "method": "random_edit", "forget es": 0.1, "positions": 0},
    ]
    text = families().chosen([*beside, *rows])
    assert [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")] == ["icu", "npo", "kl"]
    assert "| `kl` | 0/1 | 0.90 |" in text


def test_what_could_not_be_taught_again_has_no_number_for_what_comes_back():
    beside = {"world": "people", "seed": 0, "forget es": 0.1, "retain es": 1.0, "general ppl": 5.0, "positions": 1}
    other = {**beside, "seed": 1}
    rows = [{**row, "method": name} for row in (beside, other) for name in ("oracle", "nothing")]
    taught = {"seconds": 1.0, "relearned es": 0.3}
    rows += [{**beside, "method": "npo", **taught}, {**other, "method": "npo", **taught}]
    rows += [{**beside, "method": "guard", "seconds": 1.0}, {**other, "method": "guard", **taught}]
    text = families().chosen(rows)
    assert "| `npo` | 2/2 | 0.10 | 1.00 | 0.30 |" in text
    assert "| `guard` | 2/2 | 0.10 | 1.00 | – |" in text
