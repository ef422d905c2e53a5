"""Rows of ``benchmarks/language.py``: what their names add to a plan, and the tables between a page's marks."""

from __future__ import annotations

import pytest

from language_bench.table import ATTACKS, page
from language_bench.variants import ADDED, before_hardening, learner_of, method_of, sections_of
from palimpsest import rules
from palimpsest.errors import PlanError

ROW = {"world": "people", "seed": 0, "method": "npo+sign", "forget es": 0.25, "relearned x20 ma": 0.5}


@pytest.mark.parametrize(
    ("name", "method", "learner", "before"),
    [
        ("npo", "npo", "finetune", "npo"),
        ("npo+sign+harden", "npo", "finetune", "npo+sign"),
        ("sisa+one_shard", "sisa", "sisa+one_shard", "sisa+one_shard"),
        ("oracle@sisa+one_shard", "oracle", "sisa+one_shard", "oracle@sisa+one_shard"),
        ("code_unlearn", "code_unlearn", "code_learn", "code_unlearn"),
    ],
)
def test_a_name_is_taken_apart(name, method, learner, before):
    assert (method_of(name), learner_of(name), before_hardening(name)) == (method, learner, before)


def test_additions_stand_together_in_a_plan():
    assert sections_of("npo+sign+diversify+partial+harden") == {
        "rules": [{"kind": "sign"}, {"kind": "partial"}],
        "diversify": 4,
    }
    with pytest.raises(PlanError, match="unknown addition to a method 'sgin'; did you mean 'sign'"):
        sections_of("npo+sgin")


def test_every_rule_that_is_added_is_one():
    for added in ADDED.values():
        assert rules.chosen(added.get("rules", [])) or "rules" not in added


def test_each_kind_of_table_has_marks_of_its_own(tmp_path):
    file = tmp_path / "page.md"
    file.write_text(
        "a\n<!-- tables: begin -->\nb\n<!-- tables: end -->\n<!-- attacks: begin -->\nc\n<!-- attacks: end -->\nd\n"
    )
    found = page([ROW], file, ATTACKS)
    assert found.startswith("a\n<!-- tables: begin -->\nb\n<!-- tables: end -->\n<!-- attacks: begin -->\n## People")
    assert "| npo+sign | 0.25 | – |" in found
    assert found.endswith("<!-- attacks: end -->\nd\n")
    assert "c\n" not in found.split("attacks: begin")[1].split("##")[0]
