"""Worlds of text: a base model, what it was taught, requests to forget parts of that, and an oracle for each.

A world is a folder of its own; its name ends in a digest of all that decides it: a changed recipe makes a new one.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from out_of_the_box.bases import BASES, GENERAL, REPLAY, Base, base_folder, counter
from out_of_the_box.recipes import Plan, relearning, teaching
from out_of_the_box.texts import SLICES, Row, Slice, cut, lines, shortened, stories, write_lines
from out_of_the_box.worlds import Request, World, WorldError, taught, teach
from palimpsest.models.load import source_digest
from palimpsest.records import digest

HOLDOUT, DOZEN = 10, 12
WHOLE = (REPLAY[0], GENERAL[1])  # stories that are rehearsed, and behind them those that are measured
MANY = 100  # rows from which learning takes more steps, in proportion
LAYOUT = 1  # raised when what lies in a world's folder changes its meaning
TEXT_REQUESTS = ("one", "subject", "tenth")
MATRIX = ("knowA", "knowB", "knowC", "tofuA", "tofuC", "piiA", "piiB", "piiC", "lmxA", "lmxC")
ALL_TEXT = (
    *(f"260k-{name}" for name in (*MATRIX, "tofuL")),  # the last has a thousand rows
    *(f"1m-{name}" for name in ("knowA", "knowC", "tofuC", "piiA", "piiC", "lmxC")),
    *(f"10m-{name}" for name in ("knowD", "tofuD", "piiD", "lmxD")),
)


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
            taught(folder / "oracle", self.start, {**files, "learn": files["retain"]}, self.recipe)
        return Request(name, files, folder / "oracle" if oracle else None, halves)


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
    sets = {name: folder / "data" / f"{name}.jsonl" for name in ("learn", "replay")}
    learned, recipe = teach(folder, start, sets, recipe, "completion" if "prompt" in learn[0] else "text")
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


def without(rows: Sequence[Row], ids: Collection[str]) -> list[Row]:
    """The rows that stay."""
    return [row for row in rows if row["id"] not in ids]


def after_another(world: World, name: str) -> tuple[Request, Request]:
    """A request about another tenth, and one of the world's requests that comes after it.

    The oracle of the second lacks both; where a run starts is for the caller to fill in.

    Raises:
        WorldError: the world makes no further requests.
    """
    if world.making is None:
        raise WorldError(f"--variants: no earlier request in {world.name}; accepted there: the other variants")
    learn = [dict(row) for row in lines(world.folder / "data" / "learn.jsonl")]
    earlier = world.making.request("earlier", learn, world.earlier, oracle=False)
    forgotten = [row["id"] for row in lines(world.requests[name].files["forget"])]
    rest = without(learn, world.earlier)
    return earlier, world.making.request(f"{name}-after", rest, forgotten)
