"""What lies behind a guard: the version without its guards, measured, and how often they fire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from palimpsest import methods
from palimpsest.engine.inputs import subset
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.measuring import MEASURED
from palimpsest.engine.outcome import RunSetting
from palimpsest.engine.output import Output
from palimpsest.engine.stages import measure_column
from palimpsest.models.load import Loaded
from palimpsest.models.modes import asked
from palimpsest.models.parts import off, parts_of
from palimpsest.models.parts.fit_watch import in_batches, lengths_asked
from palimpsest.models.parts.part import Part
from palimpsest.models.parts.parts_folder import name_of
from palimpsest.models.parts.watching import WatchingPart
from palimpsest.report.guard_info import FiredRow, GuardInfo, first_line
from palimpsest.report.schema import RunResult


@dataclass(frozen=True)
class Behind:
    """Of a guarded version.

    Attributes:
        measured: the scores of all sets with the guards off.
        info: which guards, and how often they fired.
    """

    measured: Measured
    info: GuardInfo


def hiding_parts(model: Any) -> tuple[Part, ...]:
    """Parts that keep what the weights know from being said: by their kind, or by the method that made them."""
    return tuple(part for part in parts_of(model) if part.hides or methods.is_guard(part.made_by.get("method", "")))


def behind(run: RunSetting, target: Output, saved: Loaded) -> Behind | None:
    """Look behind the guards of the version that a run made; None where it has none.

    Args:
        run: what was run.
        target: where it is written; held.
        saved: the version, on its device; as before afterwards.
    """
    hiding = hiding_parts(saved.model)
    if not hiding:
        return None
    watching = [part for part in hiding if isinstance(part, WatchingPart)]
    fired = _fired_by_set(run, saved.model, watching) if watching else {}
    with off(saved.model, hiding):
        measured = measure_column(run, target, "without", saved)
    numbered = {id(part): name_of(number, part.kind) for number, part in enumerate(parts_of(saved.model))}
    names = tuple(numbered[id(part)] for part in hiding)
    keeps = tuple(dict.fromkeys(part.keeps for part in hiding if part.keeps))
    return Behind(
        measured, GuardInfo(parts=names, unchanged=methods.is_guard(run.plan.method), keeps=keeps, fired=fired)
    )


def with_guard(result: RunResult, found: Behind | None) -> RunResult:
    """The result with its guards in it, and its first line; as it is where there are none."""
    if found is None:
        return result
    values: dict[Any, Any] = {
        column: {name: {key: row.value for key, row in rows.items()} for name, rows in sets.items()}
        for column, sets in result.scores.items()
    }
    return result.model_copy(update={"guard": found.info, "first_line": first_line(found.info, values)})


def _fired_by_set(run: RunSetting, model: Any, watching: list[WatchingPart]) -> dict[str, FiredRow]:
    """How often the guards fire on the rows that are measured, set by set."""
    limit, seed = run.plan.measuring.limit, run.plan.training.seed
    names = [name for name in MEASURED if name in run.sets]
    return {name: _fired(model, watching, subset(run.sets[name], limit, seed, name)) for name in names}


def _fired(model: Any, watching: list[WatchingPart], examples: Any) -> FiredRow:
    """In how many rows of a set one of the guards fires."""
    where = next(model.parameters()).device
    anywhere = in_time = 0
    with asked(model):
        for batch in in_batches(examples, examples.ids):
            fired_BT = _fired_in(model, watching, batch.to(where))
            anywhere += int(fired_BT.any(1).sum())
            in_time += sum(bool(fired_BT[row, length - 1]) for row, length in enumerate(lengths_asked(batch)))
    return FiredRow(rows=len(examples), anywhere=anywhere, in_time=in_time)


def _fired_in(model: Any, watching: list[WatchingPart], batch: Any) -> torch.Tensor:
    """Where one of the guards has fired, (B, T), padding left out."""
    fired_BT = torch.zeros_like(batch.input_ids_BT, dtype=torch.bool)
    for part in watching:
        with part.telling() as told:
            for rows, together in batch.apart(model):
                model(**together.inputs(), use_cache=False)
                width = together.input_ids_BT.shape[1]
                fired_BT[rows, :width] |= told[-1][:, -width:]
    there_BT: torch.Tensor = batch.attention_mask_BT.bool()
    return fired_BT & there_BT
