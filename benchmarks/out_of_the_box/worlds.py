"""What a world is, and how its models are taught."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import palimpsest as pal
from out_of_the_box.recipes import Plan
from palimpsest.files import write_atomic
from palimpsest.report.schema import RunResult

if TYPE_CHECKING:
    from out_of_the_box.text_worlds import Making

KNOWN = {"completion": 0.95, "text": 0.90, "image": 0.95}
"""Extraction strength, of images accuracy, from which rows count as learned; how a text begins nobody can know."""
BY_HEART = 0.95
"""Memorisation accuracy that is enough after the most steps, where rows begin alike and none can be told so early."""
LONGER = (1.0, 1.5, 2.25)  # of the recipe's steps, until the rows are known


class WorldError(Exception):
    """A world that cannot be made, in one sentence."""


@dataclass(frozen=True)
class Request:
    """What is to be forgotten, and the model that never learned it.

    Attributes:
        name: e.g. "subject".
        files: set name -> file, all that a run is given.
        oracle: hidden from the runs; None where none is needed.
        halves: the forget rows in two files, the first learned again afterwards; empty for a single row.
    """

    name: str
    files: Mapping[str, Path]
    oracle: Path | None
    halves: tuple[Path, ...] = ()


@dataclass(frozen=True)
class World:
    """One base model with one slice of one data set.

    Attributes:
        name: model and slice, e.g. "260k-knowA".
        model: the base's name.
        data: folder of the rows.
        tune: constants may be chosen on it.
        folder: of everything.
        base: the model before it learned anything.
        learned: the taught model.
        requests: by name.
        relearning: the plan for learning half of the forgotten again.
        making: makes further requests of a text world.
        earlier: ids of a tenth that none of its requests touches.
        modality: "text" or "image".
    """

    name: str
    model: str
    data: str
    tune: bool
    folder: Path
    base: str
    learned: Path
    requests: Mapping[str, Request]
    relearning: Plan
    making: Making | None = None
    earlier: tuple[str, ...] = ()
    modality: str = "text"


def teach(folder: Path, start: str | Path, sets: Mapping[str, Path], recipe: Plan, kind: str) -> tuple[Path, Plan]:
    """Teach a world's model its rows, and say so in ``taught.json``.

    Args:
        folder: of the world.
        start: the base.
        sets: "learn", and "replay" where something is rehearsed.
        recipe: with ``max_steps``.
        kind: of the rows, as in ``KNOWN``.

    Returns:
        The taught model and the recipe that reached it: the given one, or the same with more steps.

    Raises:
        WorldError: none did.
    """
    metric = "accuracy" if kind == "image" else "es"
    for longer in LONGER:
        steps = round(recipe["training"]["max_steps"] * longer)
        plan = {**recipe, "training": {**recipe["training"], "max_steps": steps}}
        learned = folder / f"learned-{steps}"
        result = taught(learned, start, sets, plan)
        values = {name: score.value for name, score in result.scores["after"]["learn"].items()}
        facts = {"steps": steps, "rows": result.sets["learn"].n, **values}
        alike = kind == "text" and longer == LONGER[-1] and facts["ma"] >= BY_HEART
        if facts[metric] >= KNOWN[kind] or alike:
            write_atomic(folder / "taught.json", json.dumps(facts, indent=1) + "\n")
            return learned, plan
    raise WorldError(f"{folder.name}: {facts}; {metric} stays below {KNOWN[kind]}, so nothing is there to forget")


def taught(folder: Path, start: str | Path, sets: Mapping[str, Path], plan: Plan) -> RunResult:
    """The result of learning, read from its folder if it is there."""
    if (folder / "result.json").is_file():
        return RunResult.load(folder / "result.json")
    return pal.learn(start, sets["learn"], replay=sets.get("replay"), output=folder, plan=plan, threads=1)
