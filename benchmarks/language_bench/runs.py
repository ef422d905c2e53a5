"""One row of ``benchmarks/language.py``: a run, the same calibrated, and after half of it was taught again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import palimpsest as pal
from language_bench.world import GIVEN, Place
from palimpsest import methods
from palimpsest.report.schema import RunResult

LEARNED_BY: Mapping[str, str] = {"sisa": "sisa", "code_unlearn": "code_learn"}  # forgets only what was learned that way
TAU = 0.95
BESIDE = ("oracle", "nothing")  # nobody's methods


@dataclass(frozen=True)
class Cell:
    """A method on a request."""

    place: Place
    name: str

    @property
    def folder(self) -> Path:
        """Of the version."""
        return self.place.folder / self.name


def run_of(cell: Cell) -> dict[str, Any]:
    """The numbers of a row; ``refused`` says why there are none."""
    row: dict[str, Any] = {"world": cell.place.world, "seed": cell.place.seed, "method": cell.name}
    try:
        learned = taught(cell.place, cell.name)
        version = versioned(cell, learned)
        return {**row, **cost(version, learned), **scores(cell, version, learned)}
    except pal.PalimpsestError as refused:
        return {**row, "refused": str(refused)}


def done(folder: Path) -> RunResult | None:
    """The result of a run that is there."""
    return RunResult.load(folder / "result.json") if (folder / "result.json").is_file() else None


def taught(place: Place, name: str) -> Path:
    """The model before: most methods share one."""
    by, kept = LEARNED_BY.get(name, "finetune"), _history(name)
    if by == "finetune" and not kept:
        return place.learned
    folder = place.learned.with_name("-".join([place.learned.name, by, *kept]))
    if done(folder) is None:
        plan = {**place.recipe, "record": list(kept)} if kept else place.recipe
        files = {"replay": place.files["replay"]}
        pal.learn(place.start, place.files["learn"], method=by, plan=plan, output=folder, threads=1, **files)
    return folder


def _history(name: str) -> tuple[str, ...]:
    """What the learn run must record for a method, e.g. deltas."""
    reads = methods.card(name).reads if name in methods.names() else ()
    return tuple(kind for kind in reads if kind == "deltas")


def versioned(cell: Cell, learned: Path) -> Path:
    """The version of a row: of the method, the oracle, or the model as it was."""
    place, files = cell.place, cell.place.files
    if cell.name in BESIDE:
        return place.oracle if cell.name == "oracle" else learned
    if done(cell.folder) is None:
        sets = {name: files[name] for name in given(cell.name)}
        plan = {"options": _size(cell), "training": {"seed": place.seed}}
        pal.unlearn(learned, files["forget"], method=cell.name, plan=plan, output=cell.folder, threads=1, **sets)
    return cell.folder


def given(name: str) -> tuple[str, ...]:
    """Sets beside the forget rows: rows are rehearsed where the run takes steps of its own choice."""
    card = methods.card(name)
    rehearses = not (card.edits or card.own_schedule)
    return tuple(role for role in GIVEN if role != "replay" or rehearses)


def _size(cell: Cell) -> dict[str, float]:
    """Noise is as large as the change of NPO."""
    npo = cell.place.folder / "npo"
    return {"norm": moved(cell.place.learned, npo)} if cell.name == "random_edit" else {}


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
    return {**found, **relearned(cell, version), **({} if cell.name in BESIDE else calibrated(cell, version, learned))}


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


def relearned(cell: Cell, version: Path) -> dict[str, Any]:
    """ES of one half of the forget rows after the other was taught again."""
    files, output = cell.place.files, cell.place.folder / f"{cell.name}-again"
    try:
        if done(output) is None:
            pal.learn(
                version, files["again"], holdout=files["other"], output=output, plan=cell.place.relearning, threads=1,
                allow_forgotten=True,
            )  # fmt: skip
    except pal.PalimpsestError as refused:
        return {"not relearned": str(refused)}
    return {"relearned es": measured(output, files["other"], "es")["es"]}


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
