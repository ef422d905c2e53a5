"""Worlds of text: a base model, what it was taught, requests to forget parts of that, and an oracle for each.

A world is a folder of its own; its name ends in a digest of all that decides it, so that a changed recipe makes a new one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from out_of_the_box.bases import BASES, GENERAL, REPLAY, Base, base_folder, counter
from out_of_the_box.recipes import Plan, relearning, teaching
from out_of_the_box.texts import SLICES, Row, Slice, cut, lines, shortened, stories, write_lines

import palimpsest as pal
from palimpsest.models.load import source_digest
from palimpsest.records import digest
from palimpsest.report.files import write_atomic
from palimpsest.report.schema import RunResult

HOLDOUT, DOZEN = 10, 12
WHOLE = (REPLAY[0], GENERAL[1])  # stories that are rehearsed, and behind them those that are measured
MANY = 100  # rows from which learning takes more steps, in proportion
LONGER = (1.0, 1.5, 2.25)  # of the recipe's steps, until the rows are known
KNOWN = 0.95  # extraction strength from which rows count as learned
LAYOUT = 1  # raised when what lies in a world's folder changes its meaning
TEXT_REQUESTS = ("one", "subject", "tenth")
MATRIX = ("knowA", "knowB", "knowC", "tofuA", "tofuC", "piiA", "piiB", "piiC", "lmxA", "lmxC")
ALL_TEXT = (
    *(f"260k-{name}" for name in MATRIX),
    *(f"1m-{name}" for name in ("knowA", "knowC", "tofuC", "piiA", "piiC", "lmxC")),
    *(f"10m-{name}" for name in ("knowD", "tofuD", "piiD", "lmxD")),
)


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
class Making:
    """How requests of a text world are made.

    Attributes:
        folder: of the world.
        start: the base.
        recipe: by which the model was taught, and so every oracle.
    """

    folder: Path
    start: Path
    recipe: Plan

    def request(self, name: str, learn: Sequence[Row], ids: Collection[str], *, oracle: bool = True) -> Request:
        """Write a request's files and retrain its oracle, unless they are there."""
        folder, data = self.folder / name, self.folder / "data"
        forget = [row for row in learn if row["id"] in ids]
        files = {
            "forget": write_lines(folder / "forget.jsonl", forget),
            "retain": write_lines(folder / "retain.jsonl", without(learn, ids)),
            **{other: data / f"{other}.jsonl" for other in ("holdout", "general", "replay")},
        }
        halves: tuple[Path, ...] = ()
        if len(forget) > 1:
            parts = {"again": forget[::2], "other": forget[1::2]}
            halves = tuple(write_lines(folder / f"{part}.jsonl", rows) for part, rows in parts.items())
        if oracle:
            taught(folder / "oracle", self.start, files["retain"], files["replay"], self.recipe)
        return Request(name, files, folder / "oracle" if oracle else None, halves)


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


def parsed(name: str) -> tuple[Base, Slice]:
    """Base and slice of a world's name.

    Raises:
        WorldError: there is no such base or slice.
    """
    model, _, chosen = name.partition("-")
    if model not in BASES or chosen not in SLICES:
        accepted = f"MODEL-SLICE with {', '.join(BASES)} and {', '.join(SLICES)}"
        raise WorldError(f"--worlds: no world {name!r}; accepted: {accepted}")
    return BASES[model], SLICES[chosen]


def may_tune(name: str) -> bool:
    """May constants be chosen on a world? Not on the largest model, nor on slices that are kept for showing."""
    base, chosen = parsed(name)
    return chosen.tune and base.name != "10m"


def chosen_ids(rows: Sequence[Row], *, subjects: bool, rng: random.Random) -> dict[str, list[str]]:
    """Request name -> ids of the rows that it forgets; "earlier" is another tenth, which overlaps with none of them.

    Args:
        rows: what is learned.
        subjects: a request is about the second subject by name, else about a random dozen of rows.
        rng: decides the rest.
    """
    ids = [row["id"] for row in rows]
    if subjects:
        counts: dict[str, int] = {}
        for row in rows:
            counts[row["subject"]] = counts.get(row["subject"], 0) + 1
        names = sorted(name for name, count in counts.items() if count >= 5)
        of_subject = [row["id"] for row in rows if row["subject"] == names[1]]
    else:
        rng.shuffle(ids)
        of_subject = ids[:DOZEN]
    rng.shuffle(ids)
    tenth = max(2, len(ids) // 10)
    asked = {"one": ids[-1:], "subject": of_subject, "tenth": ids[:tenth]}
    taken = {i for each in asked.values() for i in each}
    return {**asked, "earlier": [i for i in ids if i not in taken][:tenth]}


def build_world(name: str, data: Path, cache: Path) -> World:
    """Make a text world, or find it made.

    Args:
        name: e.g. "260k-knowA".
        data: where the real inputs are.
        cache: where worlds and bases are kept.

    Raises:
        WorldError: no such world, or its model does not learn its rows.
    """
    base, chosen = parsed(name)
    start = base_folder(base.name, data, cache)
    num_tokens = counter(start)
    rows = shortened(chosen.rows(data), base.longest, num_tokens)
    extra = [{**row, "text": cut(row["text"], base.longest, num_tokens)} for row in stories(data, *WHOLE)]
    recipe = teaching(base.rate, round(base.steps * max(1.0, len(rows) / MANY)))
    parts = {"rows": rows, "extra": extra, "base": source_digest(str(start), None), "layout": LAYOUT}
    folder = cache / "worlds" / f"{name}-{digest({**parts, 'recipe': recipe['training']})[:8]}"
    rng = random.Random(1)
    learn = _write_sets(folder / "data", rows, extra, rng)
    ids = chosen_ids(learn, subjects=chosen.subjects, rng=rng)
    learned, recipe = _teach(folder, start, recipe)
    making = Making(folder, start, recipe)
    return World(
        name=name,
        model=base.name,
        data=chosen.data,
        tune=may_tune(name),
        folder=folder,
        base=str(start),
        learned=learned,
        requests={asked: making.request(asked, learn, ids[asked]) for asked in TEXT_REQUESTS},
        relearning=relearning(base.relearning_rate),
        making=making,
        earlier=tuple(ids["earlier"]),
    )


def _write_sets(folder: Path, rows: Sequence[Row], extra: Sequence[Row], rng: random.Random) -> list[Row]:
    """Write what is learned, held back, rehearsed and measured; the rows that are learned."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    held_back = set(order[:HOLDOUT])
    learn = [row for n, row in enumerate(rows) if n not in held_back]
    sets = {
        "learn": learn,
        "holdout": [rows[n] for n in sorted(held_back)],
        "replay": extra[: GENERAL[0]],
        "general": extra[GENERAL[0] :],
    }
    for name, chosen in sets.items():
        write_lines(folder / f"{name}.jsonl", chosen)
    return learn


def _teach(folder: Path, start: Path, recipe: Plan) -> tuple[Path, Plan]:
    """The taught model and the recipe that reached ``KNOWN``: the given one, or the same with more steps."""
    for longer in LONGER:
        steps = round(recipe["training"]["max_steps"] * longer)
        plan = {**recipe, "training": {**recipe["training"], "max_steps": steps}}
        learned = folder / f"learned-{steps}"
        result = taught(learned, start, folder / "data" / "learn.jsonl", folder / "data" / "replay.jsonl", plan)
        scores = result.scores["after"]["learn"]
        facts = {"steps": steps, "es": scores["es"].value, "ma": scores["ma"].value, "rows": scores["es"].n}
        if scores["es"].value >= KNOWN:
            write_atomic(folder / "taught.json", json.dumps(facts, indent=1) + "\n")
            return learned, plan
    raise WorldError(f"{folder.name}: {facts}; extraction strength stays below {KNOWN}, so nothing is there to forget")


def without(rows: Sequence[Row], ids: Collection[str]) -> list[Row]:
    """The rows that stay."""
    return [row for row in rows if row["id"] not in ids]


def taught(folder: Path, start: str | Path, rows: Path, replay: Path, plan: Plan) -> RunResult:
    """The result of learning, read from its folder if it is there."""
    if (folder / "result.json").is_file():
        return RunResult.load(folder / "result.json")
    return pal.learn(start, rows, replay=replay, output=folder, plan=plan, threads=1)


def after_another(world: World, name: str) -> tuple[Request, Request]:
    """A request about another tenth, and one of the world's requests that comes after it.

    The oracle of the second lacks both; where a run starts is for the caller to fill in.
    """
    learn = [dict(row) for row in lines(world.folder / "data" / "learn.jsonl")]
    earlier = world.making.request("earlier", learn, world.earlier, oracle=False)
    forgotten = [row["id"] for row in lines(world.requests[name].files["forget"])]
    rest = without(learn, world.earlier)
    return earlier, world.making.request(f"{name}-after", rest, forgotten)
