"""Where an edit that goes by the level should end: the level of never seen, where the rows of the run show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palimpsest import methods
from palimpsest.control.aim import LevelAim
from palimpsest.control.goal import Goal
from palimpsest.control.readings import read
from palimpsest.derived.unrelated import scored_at_topic
from palimpsest.engine.guide import level_of
from palimpsest.engine.inputs import subset
from palimpsest.engine.plan import Plan
from palimpsest.errors import PlanError
from palimpsest.models.load import Loaded

_KNOWN = 0.2  # MA above the level that a model shows of a topic's words where they are what it knows of it


def aim_of(plan: Plan, loaded: Loaded, sets: Mapping[str, Any]) -> LevelAim | None:
    """The aim, read under the model before; None of a method that has none, or where nothing shows the level.

    Without rows that stay nothing would end it but the level, and nothing would show that.

    Args:
        plan: resolved.
        loaded: the model before, on its device.
        sets: encoded.
    """
    if not methods.load(plan.method).goes_to_level or not {"forget", "retain"} <= sets.keys():
        return None
    family, forget = loaded.family, sets["forget"].plain()
    config = plan.derived_config("unrelated")
    # Words that were named first: those that are often said beside them, such as names, a model that never saw the
    # topic may copy from the row, and no edit brings them to a level below that (docs/code_unlearn.md).
    for often_said in (False, True) if family.reads_prefixes else ():
        words = scored_at_topic(loaded, forget, sets["retain"], config, often_said=often_said)
        aim = None if words is None else _aim(plan, loaded, {**sets, "forget": words}, "words")
        if aim is not None and aim.goal.before.ma >= aim.known + _KNOWN:
            return aim
    by = "rows" if family.has_classes or family.reads_prefixes else "strength"
    return _aim(plan, loaded, {**sets, "forget": forget}, by)


def _aim(plan: Plan, loaded: Loaded, sets: Mapping[str, Any], by: Any) -> LevelAim | None:
    control = plan.control
    rows = subset(sets["forget"], control.read_rows, plan.training.seed, "forget")
    try:
        level = level_of(plan, loaded, {**sets, "forget": rows})
    except PlanError:  # its classes stay, and nothing shows what is unseen of them
        return None
    before = read(loaded.model, rows, eos_ids=loaded.eos_ids)
    return LevelAim(Goal(level, before, control.tolerance), rows, by, loaded.eos_ids)
