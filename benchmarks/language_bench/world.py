"""The requests of ``benchmarks/language.py``: who is known, who is to be forgotten, and the files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from out_of_the_box.recipes import Plan
from out_of_the_box.text_worlds import build_world
from out_of_the_box.texts import Row, lines, write_lines

WORLDS = {"people": "260k-knowE", "tofu": "260k-tofuP"}  # no constant was chosen on either
GIVEN = ("retain", "holdout", "general", "replay")


@dataclass(frozen=True)
class Place:
    """One request of one world.

    Attributes:
        world: "people" or "tofu".
        seed: which of the three subjects is to be forgotten, and the seed of every run.
        folder: of the request.
        start: the base, before it learned anything.
        learned: the model that knows all rows.
        oracle: the model that learned by the same recipe without the forget rows.
        files: set name -> file: what a run is given, and learn, paraphrase, again and other.
        recipe: the plan by which the models learned.
        relearning: the plan by which half of the forgotten is taught once more.
    """

    world: str
    seed: int
    folder: Path
    start: str
    learned: Path
    oracle: Path
    files: Mapping[str, Path]
    recipe: Plan
    relearning: Plan


def build(name: str, seeds: Sequence[int], data: Path, output: Path) -> list[Place]:
    """The requests of a world, made unless they are there."""
    world = build_world(WORLDS[name], data, output)
    if world.making is None:
        raise ValueError(f"{WORLDS[name]} is no world of texts")
    learn = lines(world.folder / "data" / "learn.jsonl")
    subjects = sorted({row["subject"] for row in learn})
    places = []
    for seed in seeds:
        forget = [row for row in learn if row["subject"] == subjects[seed]]
        request = world.making.request(f"subject-{seed}", learn, {row["id"] for row in forget})
        folder = world.folder / f"subject-{seed}"
        files = {**request.files, "learn": world.folder / "data" / "learn.jsonl"}
        files |= dict(zip(("again", "other"), request.halves, strict=True))
        files["paraphrase"] = write_lines(folder / "paraphrase.jsonl", paraphrased(forget, data))
        oracle = folder / "oracle"
        places.append(
            Place(name, seed, folder, world.base, world.learned, oracle, files, world.making.recipe, world.relearning)
        )
    return places


def paraphrased(rows: Sequence[Row], data: Path) -> list[Row]:
    """The same answers to other words of the question: TOFU's own, or a sentence around the question."""
    own = {
        f"t{row['index']}": row["paraphrased_question"] for row in lines(data / "tofu" / "forget_dev_perturbed.jsonl")
    }
    told = {row["id"]: own.get(row["id"], f"Please tell me this: {row['prompt'].strip()}") for row in rows}
    return [{**row, "prompt": told[row["id"]] + "\n"} for row in rows]
