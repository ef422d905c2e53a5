"""Rules of a plan: what they are checked against, and what they do to its digest."""

from __future__ import annotations

import pytest

from palimpsest import methods
from palimpsest.engine.given_rules import looked_at
from palimpsest.engine.plan import Plan, make_plan
from palimpsest.engine.plan_record import plan_digest, recorded_digest
from palimpsest.errors import PlanError
from palimpsest.source import code_behind

FILES = {"forget": "f.jsonl", "retain": "r.jsonl"}


def plan_of(method: str = "grad_diff", *given: dict, **sections) -> Plan:
    fields = {"kind": "unlearn", "method": method, "model": "nowhere", "files": FILES}
    return make_plan(fields, {"rules": list(given), "training": {"learning_rate": 1e-3}, **sections})


def test_a_plan_without_rules_has_the_digest_of_a_plan_that_knows_of_none():
    plan = plan_of()
    assert plan.rules == ()
    values = plan.model_dump(mode="json")
    made_by = {"palimpsest": "1", "source": "2"}
    older = {name: value for name, value in values.items() if name != "rules"}
    assert plan_digest(values, made_by) == plan_digest(older, made_by)
    assert recorded_digest({**older, **plan.made_by()}) == plan.digest()


def test_rules_their_options_and_their_order_are_in_the_digest_and_defaults_are_filled_in():
    one, two = {"kind": "partial"}, {"kind": "ball"}
    plans = [plan_of(), plan_of("grad_diff", one), plan_of("grad_diff", {**one, "keep": 0.2})]
    plans += [plan_of("grad_diff", one, two), plan_of("grad_diff", two, one)]
    assert len({plan.digest() for plan in plans}) == len(plans)
    assert plan_of("grad_diff", one).digest() == plan_of("grad_diff", {**one, "keep": 0.1}).digest()
    assert recorded_digest(plans[-1].written_down()) == plans[-1].digest()


def test_the_code_of_the_rules_a_run_is_given_is_in_its_digest(monkeypatch):
    """Those of a method are in it by the method's imports."""
    assert plan_of().made_by() != plan_of("grad_diff", {"kind": "ema"}).made_by()
    assert plan_of("grad_diff", {"kind": "ema"}).made_by() != plan_of("grad_diff", {"kind": "ball"}).made_by()
    assert "palimpsest.rules.masked" in code_behind([], [methods.file_of("salun")])
    assert "palimpsest.rules.fisher" in code_behind([], [methods.file_of("ewc")])


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        ("random_edit", {"kind": "ema"}, "rule ema: method 'random_edit' edits the weights and takes no steps"),
        ("salun", {"kind": "masked"}, "rule masked: the rule masked of method 'salun' already decides which weights"),
    ],
)
def test_a_rule_that_the_method_leaves_no_room_for_is_refused(method, given, said):
    sections = {} if method == "salun" else {"training": {}}
    with pytest.raises(PlanError, match=said):
        plan_of(method, given, **sections)


def test_salun_under_the_mask_of_another_set_is_no_contradiction():
    assert plan_of("salun", {"kind": "masked", "of": "retain"}).rules[0]["of"] == ["retain"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("replay", "rule spring looks at the replay set; give it with --replay FILE"),
        ("learn", "rule spring looks at the learn set, which no unlearn run has; leave the rule out"),
        ("retian", "unknown set 'retian'; did you mean 'retain'"),
    ],
)
def test_a_set_that_is_not_there_is_named(name, said):
    with pytest.raises(PlanError, match=said):
        looked_at([{"kind": "spring", "of": name}], FILES, methods.card("grad_diff"), "unlearn")


def test_a_set_that_the_run_makes_is_there():
    rows = [{"kind": "spring", "of": "analogous"}]
    assert looked_at(rows, FILES, methods.card("icu"), "unlearn") == ("analogous",)
