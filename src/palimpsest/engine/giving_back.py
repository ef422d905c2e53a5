"""After a run: part of the change is taken back, so that what must stay keeps its share; the folder holds that model.

    raw version in the run's folder, measured -> mixture -> calibrated -> saved beside it -> mark -> put in its place

Until the mark is written the folder holds what the run trained; from then on putting in place goes on wherever it died.
"""

from __future__ import annotations

import gc
import os
import shutil
from dataclasses import replace
from pathlib import Path

from palimpsest.data.sets.roles import CALIBRATION
from palimpsest.durable import flush, flush_tree
from palimpsest.engine.asking_mixed import MIXING, Asking, save_mixed
from palimpsest.engine.held_back import restoring_metric
from palimpsest.engine.inputs import subset
from palimpsest.engine.kept import info_of
from palimpsest.engine.outcome import RunSetting
from palimpsest.engine.output import TRAINED, Output
from palimpsest.engine.save import TOLERANCE, load_saved
from palimpsest.engine.train import Trained
from palimpsest.errors import RunError
from palimpsest.models.load import Loaded, device, load, source_digest
from palimpsest.models.mixture import mixture_of
from palimpsest.models.parts.parts_folder import BASE, PARTS, bears_parts
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.report.calibration_row import CalibrationInfo

RESTORED = "restored.json"
_OF_PLAIN = ("model.safetensors", "model.safetensors.index.json")
_BESIDE = "restored"  # folder for the weights until the mark is written


def give_back(run: RunSetting, target: Output, trained: Trained) -> tuple[Trained, Loaded, CalibrationInfo]:
    """Find how much of the change can stay, and put that model in the place of the one that was trained.

    Args:
        run: with a plan that restores.
        target: its folder holds the trained model, measured; held.
        trained: how training ended.

    Returns:
        The same with the digest of what is saved now; that model; what was found.

    Raises:
        DataError: the model before knows nothing of the rows to give back by.
    """
    mark = target.partial / RESTORED
    if not mark.is_file():
        _find(run, target)
    settle_restored(target.partial)
    known = read_sealed(mark)
    saved = load(target.partial)
    saved.model.to(device())
    info = CalibrationInfo.model_validate(known["info"])
    return replace(trained, model_digest=known["model_digest"]), saved, info


def _find(run: RunSetting, target: Output) -> None:
    """Calibrate, save beside, and mark."""
    restore, partial = run.plan.restore, target.partial
    if restore is None:
        raise RunError("nothing is to be given back")
    mixture = mixture_of(run.plan.model, partial, partial / MIXING, run.plan.revision)
    name = CALIBRATION if CALIBRATION in run.sets else "retain"
    sets = {"retain": subset(run.sets[name], restore.rows, run.plan.training.seed, name)}
    metric = restoring_metric(restore, run.family)
    kept = Asking(mixture, sets, metric, target.remember, run.manner.progress).found(restore.share, restore.tolerance)
    place = partial / _BESIDE
    place.mkdir(exist_ok=True)
    said = save_mixed(mixture, kept.alpha, place, sets)
    del mixture
    gc.collect()
    load_saved(place, said, sets, tolerance=TOLERANCE)
    flush_tree(place)
    info = info_of(kept, restore.tolerance).model_copy(update={"set": name})
    mark = {"info": info.model_dump(mode="json"), "model_digest": source_digest(place), "parts": bears_parts(place)}
    write_sealed(partial / RESTORED, mark)


def settle_restored(partial: Path) -> None:
    """Put in its place what was saved beside, if it was marked whole; goes on where a dead process stopped.

    Args:
        partial: folder of a run; held.
    """
    mark = partial / RESTORED
    if not mark.is_file():
        return
    try:
        marked = read_sealed(mark)
        digest, others = marked["model_digest"], _OF_PLAIN if marked["parts"] else (BASE, PARTS)
        known = read_sealed(partial / TRAINED)
    except (OSError, ValueError, LookupError, TypeError):  # damaged: all of it is made again
        for name in (RESTORED, TRAINED):
            (partial / name).unlink(missing_ok=True)
        return
    place = partial / _BESIDE
    if place.is_dir():
        _move_in(place, partial)
    for name in others:  # the trained one may have been plain and this one not, or the reverse
        _remove(partial / name)
    if place.is_dir():
        flush(partial)
        place.rmdir()
    write_sealed(partial / TRAINED, {**known, "model_digest": digest})


def _move_in(place: Path, partial: Path) -> None:
    """Move what lies in one folder over what lies in another."""
    for file in sorted(place.iterdir()):
        if file.is_dir() and (partial / file.name).is_dir():  # of a version with parts
            shutil.rmtree(partial / file.name)
        os.replace(file, partial / file.name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
