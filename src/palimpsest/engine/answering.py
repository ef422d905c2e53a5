"""What the models of a run say to a few prompts: the model after, the oracle, and the model before, loaded again."""

from __future__ import annotations

from collections.abc import Mapping

from palimpsest.audit.asking import as_answers, say_of_sets
from palimpsest.audit.standing import standing
from palimpsest.engine.head_growth import grown
from palimpsest.engine.outcome import RunSetting
from palimpsest.models.load import Loaded, device, load
from palimpsest.records import Answer, Score
from palimpsest.report.schema import COLUMNS

ASKED = ("forget", "learn")
"""Sets whose prompts are asked, the first that the run has: what must go is what a reader wants to see."""


def answered(run: RunSetting, saved: Loaded, after: Mapping[str, Mapping[str, Score]]) -> list[Answer]:
    """Answers to the worst, the median and the best example, and to the worst that stays; none if told to record none.

    Args:
        run: what was run.
        saved: the model after, on its device.
        after: set -> metric -> score of it.
    """
    shown = _shown(after) if run.manner.answers and run.family.says else {}
    if not shown:
        return []
    said = {"after": _said(saved, run, shown)}
    # The model before has become the model after: what it said is asked of its folder.
    run.manner.progress("asking the model before", 0, 0)
    said["before"] = _said_by(run.plan.model, run, shown)
    if run.plan.oracle is not None:
        run.manner.progress("asking the oracle", 0, 0)
        said["oracle"] = _said_by(run.plan.oracle, run, shown)
    found = []
    for name, standings in shown.items():
        in_order: dict[str, dict[str, str]] = {column: said[column][name] for column in COLUMNS if column in said}
        found += as_answers(run.read.examples[name], run.sets[name], saved, standings, in_order)
    return found


def _shown(after: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, str]]:
    """Set -> id -> how it stands, of the examples that are asked; empty where no set can be."""
    name = next((name for name in ASKED if after.get(name)), None)
    if name is None:
        return {}
    shown = {name: standing(after[name], learned=name == "learn")}
    if name == "forget" and after.get("retain"):
        shown["retain"] = {next(iter(standing(after["retain"], learned=True))): "kept"}
    return shown


def _said_by(source: str, run: RunSetting, shown: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """What the model in a folder says."""
    loaded = grown(load(source, revision=run.plan.revision), run.plan)
    loaded.model.to(device())
    return _said(loaded, run, shown)


def _said(loaded: Loaded, run: RunSetting, shown: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Set -> id -> what a model says to the prompts that are shown."""
    return say_of_sets(loaded, {name: (run.sets[name], tuple(standings)) for name, standings in shown.items()})
