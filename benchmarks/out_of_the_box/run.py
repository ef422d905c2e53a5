"""One run as a user would start it, with files and nothing else; then its judgement, as one line of JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import palimpsest as pal
from out_of_the_box.judge import LEVEL, judged, share
from out_of_the_box.readings import distance, readings
from out_of_the_box.recipes import Plan, fixed_rates
from out_of_the_box.text_worlds import after_another
from out_of_the_box.worlds import Request, World
from palimpsest import methods
from palimpsest.errors import PalimpsestError, RunError
from palimpsest.files import write_atomic
from palimpsest.records import digest
from palimpsest.report.schema import RunResult

CONTROLS = ("nothing", "oracle", "random_edit")
"""Rows beside the methods: the model left alone, the oracle itself, noise of the size of an edit."""
LEFT_OUT: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "no-holdout": ("holdout",),
    "no-replay": ("replay",),
    "bare": ("holdout", "replay", "general"),
    "base": (),
    "lora": (),
    "after": (),
}
"""Variant -> files that the run is not given. "base" gets the model before it learned, "lora" changes an adapter
alone, "after" starts where an earlier request ended."""
RATES = ("searched", "papers")


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    Attributes:
        world: its name.
        request: its name.
        method: of the product, or one of ``CONTROLS``.
        seed: of the run; 0 is not passed on.
        variant: one of ``LEFT_OUT``.
        rates: "searched" is what the product does by itself, "papers" the methods' fixed ones.
    """

    world: str
    request: str
    method: str
    seed: int = 0
    variant: str = "default"
    rates: str = "searched"


def plan_of(cell: Cell) -> Plan:
    """The only options a run is given."""
    plan: Plan = fixed_rates() if cell.rates == "papers" else {}
    if cell.variant == "lora":
        plan["scope"] = {"kind": "lora"}
    if cell.seed:
        plan["training"] = {"seed": cell.seed}
    return plan


def given(cell: Cell, request: Request) -> dict[str, Path]:
    """The files that a run is given; replay at fixed rates only where the method draws from it."""
    files = {name: path for name, path in request.files.items() if name not in LEFT_OUT[cell.variant]}
    is_fixed = cell.rates == "papers" or not fixed_rates()
    if is_fixed and "replay" not in methods.load(cell.method).uses:
        files.pop("replay", None)
    return files


def unlearned(asked: Asked) -> RunResult:
    """Ask the product."""
    cell, request = asked.cell, asked.request
    remove(asked.folder)
    models = {"base": asked.world.base} if cell.variant == "base" else {}
    verb = pal.update if cell.method == "ug_clu" else pal.unlearn
    files = given(cell, request)
    return verb(asked.start, output=asked.folder, method=cell.method, plan=plan_of(cell), threads=1, **files, **models)


def remove(*folders: Path) -> None:
    """Remove folders of runs, finished or not."""
    for folder in folders:
        for each in (folder, folder.with_name(folder.name + ".partial")):
            shutil.rmtree(each, ignore_errors=True)


def level_of(result: RunResult, modality: str) -> float | None:
    """The level of "never seen" that a run aimed at, as far as its result tells."""
    return None if result.level is None else result.level.values.get(LEVEL[modality])


def relearned(model: Path, request: Request, world: World, folder: Path) -> dict[str, float] | None:
    """Scores of one half of the forget rows after the other was learned again; None for a single row or a broken model.

    Args:
        model: an unlearned model or the oracle.
        request: whose forget rows are halved.
        world: whose plan it is learned by.
        folder: for the run; removed.
    """
    if not request.halves:
        return None
    again, other = request.halves
    remove(folder)
    try:
        result = pal.learn(
            model, again, holdout=other, output=folder, plan=world.relearning, threads=1, allow_forgotten=True
        )
    except RunError:  # a model that was destroyed may not learn anything again
        return None
    finally:
        remove(folder)
    scores = result.scores["after"]["holdout"].items()
    return {name: score.value for name, score in scores if score.value is not None}


def oracle_relearned(request: Request, world: World) -> dict[str, float] | None:
    """The same of the oracle, kept beside it."""
    assert request.oracle is not None
    name = f"relearned-{digest(world.relearning)[:8]}"
    kept = request.oracle.with_name(f"{name}.json")
    if not kept.is_file():
        scores = relearned(request.oracle, request, world, request.oracle.with_name(name))
        write_atomic(kept, json.dumps(scores) + "\n")
    return json.loads(kept.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Asked:
    """A cell with the models it is about.

    Attributes:
        cell: what is asked.
        world: built.
        request: with its oracle.
        start: the model that is asked.
        folder: for the changed one.
    """

    cell: Cell
    world: World
    request: Request
    start: Path
    folder: Path


class Runs:
    """Runs of worlds, and where they put their models meanwhile."""

    def __init__(self, output: Path, *, relearn: bool = True, keep: bool = False) -> None:
        self.output, self.relearn, self.keep = output, relearn, keep

    def row(self, cell: Cell, world: World, done: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any] | None:
        """Run and judge one cell; None where a random edit has nothing to be as large as.

        Args:
            cell: what is asked.
            world: built.
            done: the rows there are, for the size of the random edit.
        """
        folder = self.output / "-".join(map(str, asdict(cell).values()))
        earlier = self.output / f"earlier-{folder.name}"
        asked = Asked(cell, world, world.requests[cell.request], world.learned, folder)
        try:
            if cell.variant == "after":
                first, later = after_another(world, cell.request)
                unlearned(Asked(cell, world, first, world.learned, earlier))
                asked = replace(asked, request=later, start=earlier)
            found = self._found(asked, size_of_edit(cell, done))
        except PalimpsestError as error:
            # what was refused or did not end leaves the model as it was
            found = {**judgement(asked, asked.start), "error": str(error), "passed": False}
        if not self.keep:
            remove(folder, earlier)
        about = {"model": world.model, "data": world.data, "tune": world.tune, "modality": world.modality}
        return None if found is None else {**asdict(cell), **about, **found}

    def _found(self, asked: Asked, size: float | None) -> dict[str, Any] | None:
        method = asked.cell.method
        if method == "nothing":
            return judgement(asked, asked.start)
        if method == "oracle":
            return judgement(asked, asked.request.oracle)
        if method == "random_edit" and size is None:
            return None
        result = unlearned(asked) if size is None or method != "random_edit" else random_edit(asked, size)
        found = {**judgement(asked, asked.folder, result), "distance": distance(asked.start, asked.folder)}
        if self.relearn and asked.request.halves:
            again = asked.folder.with_name(f"{asked.folder.name}-again")
            found["relearned"] = relearned(asked.folder, asked.request, asked.world, again)
            found["oracle_relearned"] = oracle_relearned(asked.request, asked.world)
        return found


def judgement(asked: Asked, after: Path, result: RunResult | None = None) -> dict[str, Any]:
    """Everything that is measured and said of a model.

    Args:
        asked: what was asked.
        after: the model.
        result: of the run that made it; None where there was none.
    """
    modality, request = asked.world.modality, asked.request
    models = {"before": asked.start, "after": after, "oracle": request.oracle}
    scores = {column: readings(model, request.files, modality) for column, model in models.items()}
    said: dict[str, Any] = {}
    if result is not None:
        verdict = None if result.verdict is None else str(result.verdict.outcome)
        said = {"verdict": verdict, "level": level_of(result, modality)}
    return {
        **judged(scores, modality=modality, **said),
        **spent(result, RunResult.load(request.oracle / "result.json")),
        "rows": {name: count_rows(request.files[name]) for name in ("forget", "retain")},
        "scores": scores,
    }


def spent(result: RunResult | None, oracle: RunResult) -> dict[str, Any]:
    """Positions and seconds of a run, over and beside the oracle's training."""
    training = oracle.cost["training"]
    if result is None:
        return {"oracle_seconds": training.seconds}
    parts = [result.cost[name] for name in ("training", "preparing") if name in result.cost]
    return {
        "cost": share(sum(part.tokens for part in parts), training.tokens),
        "seconds": sum(part.seconds for part in parts),
        "oracle_seconds": training.seconds,
        "stopped": result.stopped,
    }


def size_of_edit(cell: Cell, done: Iterable[Mapping[str, Any]]) -> float | None:
    """How far the first method that ran on the same request moved the weights."""
    same = ("world", "request", "seed", "variant", "rates")
    values = asdict(cell)
    sizes = (
        row["distance"]
        for row in done
        if row["method"] not in CONTROLS and row.get("distance") and all(row[name] == values[name] for name in same)
    )
    return next(sizes, None)


def random_edit(asked: Asked, size: float) -> RunResult:
    """Noise of a given size, by the product's own control."""
    remove(asked.folder)
    files = {name: asked.request.files[name] for name in ("forget", "retain", "general")}
    plan = {**fixed_rates(), "options": {"norm": size, "seed": asked.cell.seed}}
    return pal.unlearn(asked.start, output=asked.folder, method="random_edit", plan=plan, threads=1, **files)


def count_rows(file: Path) -> int:
    """Examples in a file of a world."""
    if file.suffix == ".npz":
        from out_of_the_box.images import count_images

        return count_images(file)
    return len(file.read_text(encoding="utf-8").splitlines())
