"""What an edit by the level is judged by: named words alone, with words often said, or whole rows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from palimpsest.engine import edit_aim


@pytest.mark.parametrize(
    ("known", "judged"),
    [
        ({"named": 0.6, "often": 0.7}, "named"),
        ({"named": 0.29, "often": 0.7}, "often"),
        ({"named": 0.29, "often": 0.29}, "rows"),
        ({"named": None, "often": 0.7}, "often"),
        ({"named": None, "often": None}, "rows"),
    ],
)
def test_words_count_where_the_model_knows_them_and_those_that_were_named_first(monkeypatch, known, judged):
    """The level is 0.1 throughout: known is what is 0.2 above it."""

    def scored(loaded, forget, stays, config, *, often_said):
        name = "often" if often_said else "named"
        return None if known[name] is None else name

    def aim(plan, loaded, sets, by):
        name = sets["forget"] if by == "words" else by
        return SimpleNamespace(name=name, known=0.1, goal=SimpleNamespace(before=SimpleNamespace(ma=known.get(name))))

    monkeypatch.setattr(edit_aim, "scored_at_topic", scored)
    monkeypatch.setattr(edit_aim, "_aim", aim)
    family = SimpleNamespace(reads_prefixes=True, has_classes=False)
    plan = SimpleNamespace(method="code_unlearn", derived_config=lambda name: None)
    sets = {"forget": SimpleNamespace(plain=lambda: "all of the rows"), "retain": None}
    assert edit_aim.aim_of(plan, SimpleNamespace(family=family), sets).name == judged
