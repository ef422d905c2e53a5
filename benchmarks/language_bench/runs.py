"""One row of ``benchmarks/language.py``: a run, the same calibrated, and after half of it was taught again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import palimpsest as pal
from language_bench.variants import OWN_RECIPE, SHARE, before_hardening, learner_of, method_of, sections_of
from language_bench.world import GIVEN, Place
from palimpsest import methods
from palimpsest.report.schema import RunResult

TAU = 0.95
BESIDE = ("oracle", "nothing")  # nobody's methods


@dataclass(frozen=True)
class Cell:
    """A method on a request.

    Attributes:
        place: the request.
        name: of the row (``variants``).
    """

    place: Place
    name: str

    @property
    def folder(self) -> Path:
        """Of the version."""
        return self.place.folder / self.name

    @property
    def method(self) -> str:
        """Of ``methods``, or of ``BESIDE``."""
        return method_of(self.name)

    @property
    def row(self) -> dict[str, Any]:
        """What names its row."""
        return {"world": self.place.world, "seed": self.place.seed, "method": self.name}


def run_of(cell: Cell) -> dict[str, Any]:
    """The numbers of a row; ``refused`` says why there are none."""
    return told(cell, scores)


def told(cell: Cell, look: Callable[[Cell, Path, Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Make a row's version and look at it."""
    try:
        learned = taught(cell.place, cell.name)
        version = versioned(cell, learned)
        return {**cell.row, **cost(version, learned), **look(cell, version, learned)}
    except pal.PalimpsestError as refused:
        return {**cell.row, "refused": str(refused)}


def done(folder: Path) -> RunResult | None:
    """The result of a run that is there."""
    return RunResult.load(folder / "result.json") if (folder / "result.json").is_file() else None


def taught(place: Place, name: str, rows: str = "learn") -> Path:
    """The model before: most methods share one.

    Args:
        place: the request.
        name: of a row.
        rows: the set that it learns; "retain" is that of an oracle.
    """
    learner, kept = learner_of(name), _history(method_of(name))
    by = method_of(learner)
    if by == "finetune" and not kept:
        return place.learned if rows == "learn" else place.oracle
    home = place.learned if rows == "learn" else place.oracle
    folder = home.with_name("-".join([home.name, learner, *kept]))
    if done(folder) is None:
        plan = {**place.recipe, "record": list(kept)} if kept else place.recipe
        if by in OWN_RECIPE:
            plan = {**sections_of(learner), "measuring": place.recipe["measuring"]}
        files = {"replay": place.files["replay"]}
        pal.learn(place.start, place.files[rows], method=by, plan=plan, output=folder, threads=1, **files)
    return folder


def _history(name: str) -> tuple[str, ...]:
    """What the learn run must record for a method, e.g. deltas."""
    reads = methods.card(name).reads if name in methods.names() else ()
    return tuple(kind for kind in reads if kind == "deltas")


def versioned(cell: Cell, learned: Path) -> Path:
    """The version of a row: of the method, the oracle, or the model as it was."""
    place, files = cell.place, cell.place.files
    if cell.method in BESIDE:
        return taught(place, cell.name, "retain") if cell.method == "oracle" else learned
    if cell.name != before_hardening(cell.name):
        return hardened(cell, learned)
    if done(cell.folder) is None:
        sets = {name: files[name] for name in given(cell.method)}
        added = sections_of(cell.name)
        plan = {**added, "options": {**_size(cell), **added.get("options", {})}, "training": {"seed": place.seed}}
        if cell.method in OWN_RECIPE:
            plan = {"measuring": place.recipe["measuring"]}  # all else is the version's own
        pal.unlearn(learned, files["forget"], method=cell.method, plan=plan, output=cell.folder, threads=1, **sets)
    return cell.folder


def hardened(cell: Cell, learned: Path) -> Path:
    """The version of another row, made hard to bring back."""
    files = cell.place.files
    before = versioned(replace(cell, name=before_hardening(cell.name)), learned)
    if done(cell.folder) is None:
        given = {"forget": files["forget"], "replay": files["replay"]}
        pal.harden(
            before, files["retain"], alpha=SHARE, output=cell.folder, seed=cell.place.seed, threads=1, **given
        )  # fmt: skip
    return cell.folder


def given(name: str) -> tuple[str, ...]:
    """Sets beside the forget rows: rows are rehearsed where the run takes steps of its own choice."""
    card = methods.card(name)
    rehearses = card.sharded or not (card.edits or card.own_schedule)
    return tuple(role for role in GIVEN if role != "replay" or rehearses)


def _size(cell: Cell) -> dict[str, float]:
    """Noise is as large as the change of NPO."""
    npo = cell.place.folder / "npo"
    return {"norm": moved(cell.place.learned, npo)} if cell.method == "random_edit" else {}


def moved(before: Path, after: Path) -> float:
    """L2 distance of two versions' weights."""
    from safetensors.torch import load_file

    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    return math.sqrt(sum(float((new[name] - old[name]).double().pow(2).sum()) for name in old))


def scores(cell: Cell, version: Path, learned: Path) -> dict[str, Any]:
    """What is known of which rows: as it is, calibrated, and after half was taught again."""
    files = cell.place.files
    found = {f"forget {key}": value for key, value in measured(version, files["forget"], "es", "ma", "prob").items()}
    found["paraphrase es"] = measured(version, files["paraphrase"], "es")["es"]
    found["retain es"] = measured(version, files["retain"], "es")["es"]
    found["general ppl"] = measured(version, files["general"], "ppl")["ppl"]
    known = {} if cell.method in BESIDE else calibrated(cell, version, learned)
    return {**found, **relearned(cell, version, "es"), **known}


def calibrated(cell: Cell, version: Path, learned: Path) -> dict[str, Any]:
    """The version brought back to 95 % of the retain ES of before."""
    output, files = cell.folder.with_name(f"{cell.name}-calibrated"), cell.place.files
    try:
        if done(output) is None:
            pal.calibrate(learned, version, files["retain"], output=output, metric="es", tau=TAU, threads=1)
    except pal.PalimpsestError as refused:
        return {"not calibrated": str(refused)}
    return {
        "alpha": json.loads((output / "result.json").read_text(encoding="utf-8"))["calibration"]["alpha"],
        "calibrated forget es": measured(output, files["forget"], "es")["es"],
        "calibrated retain es": measured(output, files["retain"], "es")["es"],
    }


def relearned(cell: Cell, version: Path, *names: str, passes: int | None = None) -> dict[str, Any]:
    """What is known of one half of the forget rows after the other was taught again.

    Args:
        cell: of the row.
        version: to be attacked.
        names: of metrics.
        passes: over the half; None = those of the plan.
    """
    files, plan = cell.place.files, cell.place.relearning
    word = "relearned" if passes is None else f"relearned x{passes}"
    output = cell.place.folder / f"{cell.name}-again{passes or ''}"
    if passes is not None:
        plan = {**plan, "training": {**plan["training"], "num_train_epochs": passes}}
    try:
        if done(output) is None:
            pal.learn(
                version, files["again"], holdout=files["other"], output=output, plan=plan, threads=1,
                allow_forgotten=True,
            )  # fmt: skip
    except pal.PalimpsestError as refused:
        return {f"not {word}": str(refused)}
    return {f"{word} {key}": value for key, value in measured(output, files["other"], *names).items()}


def cost(version: Path, learned: Path) -> dict[str, Any]:
    """Seconds, positions and memory of the run; bytes that the versions keep beside a plain model."""
    kept = sum(file.stat().st_size for place in {version, learned} for file in beside(place))
    result = done(version)
    if version == learned or result is None:
        return {"kept": kept}
    spent = result.cost["training"]
    return {"seconds": spent.seconds, "positions": spent.tokens, "peak": spent.peak_bytes, "kept": kept}


def beside(version: Path) -> list[Path]:
    """Files of companions and of parts."""
    return [file for kind in ("companion", "parts") for file in (version / kind).rglob("*") if file.is_file()]


def measured(version: Path, rows: Path, *names: str) -> dict[str, float]:
    """Metrics of a version on some rows; remembered."""
    place = version.parent / "measured" / f"{version.name}-{rows.stem}-{'-'.join(names)}.json"
    if not place.is_file():
        found = pal.measure(version, rows, metrics=list(names), threads=1)
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps({name: found.scores[name].value for name in names}), encoding="utf-8")
    return json.loads(place.read_text(encoding="utf-8"))
