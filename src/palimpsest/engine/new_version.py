"""A version that differs from another in its parts alone: without some, scaled, or folded into plain weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from palimpsest.companions import COMPANIONS
from palimpsest.companions.companion import Change
from palimpsest.companions.learned import read_record, write_learned
from palimpsest.durable import flush_tree, put, with_usual_modes
from palimpsest.engine.handing_on import hand_on
from palimpsest.engine.output import Output
from palimpsest.engine.save import MERGED_TOLERANCE, TOLERANCE, apart
from palimpsest.errors import ModelError, PlanError, SavedError
from palimpsest.files import check_makeable_folder
from palimpsest.models.bound import check_bound, write_manifest
from palimpsest.models.load import Loaded, load
from palimpsest.models.modes import asked
from palimpsest.models.parts import detach, parts_of
from palimpsest.models.parts.with_parts import folded, write_version
from palimpsest.models.sources import source_digest


def without_and_scaled(
    folder: Path,
    output: Path,
    remove: Collection[int],
    alphas: Mapping[int, float],
    undo: Mapping[int, int] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Write a new version without some parts, and with others scaled or partly undone.

    What was forgotten by a part that is gone or weaker may be back: the record beside the new version says so. The
    histories beside the old version lie beside the new one, too, as far as they are of use there; they lack the rows
    that were forgotten.

    Args:
        folder: of a version with parts, or of an adapter.
        output: where the new one goes.
        remove: numbers of parts.
        alphas: number of a part -> its alpha.
        undo: number of a part -> number of the request whose change in it is taken back.

    Returns:
        Notes: which histories were not handed on, and why.

    Raises:
        UsageError: the folder cannot be loaded, there is no such request, or the output be written.
        SavedError: what was written answers otherwise.
    """
    _check_free(output)
    check_bound(folder)
    loaded = load(folder, tokenizer_needed=False, beside=True)
    parts = parts_of(loaded.model)
    for number, alpha in alphas.items():
        parts[number].alpha = alpha
    for number, request in undo.items():
        parts[number].undo(request)
    moved = any(not parts[number].hides for number in (*remove, *alphas))  # a guard stands beside what is known
    detach(loaded.model, [parts[number] for number in remove])
    record = read_record(folder)
    if record is not None:
        known = record.learned | record.forgotten
        record = replace(record, learned=known, forgotten=frozenset(), elsewhere=True)
    notes: list[str] = []

    def beside(place: Path) -> None:
        write_learned(place, record)
        notes.extend(_handed_on(folder, place, moved=moved))

    _write(loaded, output, beside, TOLERANCE)
    return tuple(notes)


def _handed_on(folder: Path, place: Path, *, moved: bool) -> tuple[str, ...]:
    """The histories of a version, copied beside another one as far as they are of use and can be read; notes."""
    flush_tree(place)
    try:
        return hand_on(folder, place, Change("palimpsest parts", source_digest(place), steps=int(moved)))
    except ModelError as error:  # nobody was asked to read them: the parts are what is wanted
        shutil.rmtree(place / COMPANIONS, ignore_errors=True)
        return (f"The histories beside {folder} were not handed on: {error}.",)


def exported(folder: Path, output: Path) -> None:
    """Write a version as plain weights, which every reader knows; its parts folded in.

    Raises:
        ModelError: a part does not fold; names it.
        UsageError: as ``without_and_scaled``.
        SavedError: what was written answers otherwise.
    """
    _check_free(output)
    check_bound(folder)
    loaded = load(folder, tokenizer_needed=False)
    said = _probe(loaded)
    names = {id(part): number for number, part in enumerate(parts_of(loaded.model))}
    folded(loaded.model, every=True)
    left = parts_of(loaded.model)
    if left:
        number, part = names[id(left[0])], left[0]
        hidden = ", which still know what it hides" if part.hides else ""
        raise ModelError(
            f"model {folder}: part {number} ({part.kind} at {next(iter(part.places), 'every text')}) does not fold "
            f"into plain weights{hidden}; accepted: a version without it (palimpsest parts {folder} --remove {number} "
            "--output NEW), or keep the parts: they load after import palimpsest"
        )
    record = read_record(folder)
    _write(loaded, output, lambda place: write_learned(place, record), MERGED_TOLERANCE, said)


def _check_free(output: Path) -> None:
    """Refuse an output that is there, or cannot be made."""
    target = Output(output)
    there = next((place for place in (target.folder, target.partial) if place.exists()), None)
    if there is not None:
        raise PlanError(f"output {there} exists; give a folder that does not exist")
    check_makeable_folder(target.folder, "output", PlanError)


def _write(
    loaded: Loaded,
    output: Path,
    also: Callable[[Path], None],
    tolerance: float,
    said: Float[Tensor, "S V"] | None = None,
) -> None:
    """A whole folder, or none: written beside its place, loaded again and compared, then renamed."""
    target = Output(output)
    said = _probe(loaded) if said is None else said
    target.folder.parent.mkdir(parents=True, exist_ok=True)
    with target.held():
        partial = target.partial
        write_version(loaded.model.eval(), partial)
        if loaded.companion is not None:
            loaded.companion.save_pretrained(partial)
        also(partial)
        with_usual_modes(partial)
        _check_same(said, _probe(load(partial, tokenizer_needed=False)), target.folder, tolerance)
        write_manifest(partial)
        flush_tree(partial)
        put(partial, target.folder)


def _check_same(said: Float[Tensor, "S V"], again: Float[Tensor, "S V"], folder: Path, tolerance: float) -> None:
    share = apart(said, again)
    if share > tolerance:
        raise SavedError(
            f"{folder} would answer otherwise than the version it is made of: a logit is off by {share:.1g} of the "
            f"largest one (accepted: {tolerance:g}); nothing was written"
        )


def _probe(loaded: Loaded) -> Float[Tensor, "S V"]:
    """What a model says of a few made-up inputs, the same ones for every model of its kind."""
    model: Any = loaded.model
    inputs = loaded.family.probe(loaded)
    where = next(model.parameters()).device
    with asked(model):
        logits: Tensor = model(**{name: tensor.to(where) for name, tensor in inputs.items()}).logits
    return logits.reshape(-1, logits.shape[-1]).float().cpu()
