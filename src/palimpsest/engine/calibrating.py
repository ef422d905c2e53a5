"""A calibration from plan to record: a whole version folder, or none.

    mixture_of -> calibrated (each evaluation remembered) -> save the mixed model -> load it again, same answers
               -> scores before, raw and after -> result.json, report.html, learned.json

Whoever dies in between leaves what was measured; the same call again asks the rest and ends with the same weights.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palimpsest import methods, metrics
from palimpsest.audit.calibration import Calibrated, halvings_of
from palimpsest.companions.companion import Change
from palimpsest.durable import flush_tree
from palimpsest.engine.asking_mixed import CALIBRATING, MIXING, Asking, save_mixed, take, together
from palimpsest.engine.calibration_plan import CalibrationPlan
from palimpsest.engine.given import Manner
from palimpsest.engine.handing_on import hand_on
from palimpsest.engine.inputs import Read, encode_sets, subset
from palimpsest.engine.kept import info_of, notes_of
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.outcome import environment
from palimpsest.engine.output import Output
from palimpsest.engine.same_words import check_same_words
from palimpsest.engine.save import TOLERANCE, load_saved
from palimpsest.engine.whole_folder import made_whole
from palimpsest.models.families import Family
from palimpsest.models.load import load_tokenizer, source_digest, use_threads
from palimpsest.models.mixture import mixture_of
from palimpsest.models.parts.part_rows import part_rows
from palimpsest.records import Cost, TokenIds
from palimpsest.report.schema import Column, CostRow, RunResult, SetInfo, rows_of


def execute_calibration(plan: CalibrationPlan, read: Read, manner: Manner) -> RunResult:
    """Calibrate into an output folder; the same call again goes on where a dead one stopped.

    Args:
        plan: with the digests of its inputs.
        read: its sets.
        manner: where to, and how it goes about it.

    Returns:
        The result, as written to ``result.json``.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        Interrupted: Ctrl-C or SIGTERM stopped it; the partial folder holds what was measured.
    """
    return made_whole(
        plan, manner, lambda target: _made(plan, read, manner, target), lambda result: _heir(plan, result)
    )


def _heir(plan: CalibrationPlan, result: RunResult) -> str:
    return plan.after if result.calibration and result.calibration.alpha else plan.model


def _made(plan: CalibrationPlan, read: Read, manner: Manner, target: Output) -> RunResult:
    """Everything that loads, measures and saves."""
    for note in guard_notes(plan.after):
        manner.progress(f"note: {note}", 0, 0)
    manner.progress(CALIBRATING, 0, halvings_of(plan.tolerance) + 2, "loading the two models")
    asks_words = any(not isinstance(e.content, TokenIds) for rows in read.examples.values() for e in rows)
    place = target.partial / MIXING
    mixture = mixture_of(plan.model, plan.after, place, plan.revision, tokenizer_needed=asks_words)
    threads = use_threads(mixture.before.model, manner.threads)
    tokenizer, others = mixture.before.tokenizer, load_tokenizer(plan.after, plan.revision)
    check_same_words(tokenizer, others, read.examples, f"--after {plan.after}", than="--before")
    encoded = encode_sets(read.examples, mixture.before, plan.encoding)
    sets = {name: subset(examples, plan.limit, plan.seed, name) for name, examples in encoded.items()}
    metric = metrics.build(plan.metric, plan.options)
    asking = Asking(mixture, sets, metric, target.remember, manner.progress)
    kept = asking.found(plan.tau, plan.tolerance)
    columns: dict[Column, Measured] = {"before": asking.column(0.0), "raw": asking.column(1.0)}
    trained = save_mixed(mixture, kept.alpha, target.partial, sets)
    family = mixture.before.family
    del asking, mixture
    gc.collect()  # the saved one takes its place
    saved = load_saved(target.partial, trained, sets, tolerance=TOLERANCE)
    notes = _handed_on(plan, kept.alpha, target.partial)
    columns["after"] = together([take(saved.model, name, sets[name], metric, saved.eos_ids) for name in sets])
    result = _result(plan, read, kept, columns, family=family, threads=threads, sets=sets, folder=target.partial)
    return result.model_copy(update={"notes": (*result.notes, *notes)})


def guard_notes(source: str) -> tuple[str, ...]:
    """What to know before taking a share of a version whose weights know what it does not say."""
    folder = Path(source).expanduser()
    rows = part_rows(folder) if folder.is_dir() else ()
    return tuple(
        f"{source} has a guard ({row.kind}): its weights still know what that hides, whoever leaves the part off has "
        "it back, and what is given back here is a share of the hiding, not of a forgetting"
        for row in rows
        if methods.is_guard(row.method)
    )


def _handed_on(plan: CalibrationPlan, alpha: float, partial: Path) -> tuple[str, ...]:
    """The histories of the model after, as far as they are of use beside this one; notes on the others.

    What that forgot they do not hold any more. Those of the model before do, and stay where they are.
    """
    if not alpha:
        return ()
    flush_tree(partial)
    change = Change("calibration", source_digest(partial), steps=int(alpha < 1))
    return hand_on(Path(plan.after).expanduser(), partial, change)


def _result(
    plan: CalibrationPlan,
    read: Read,
    kept: Calibrated,
    columns: Mapping[Column, Measured],
    *,
    family: Family,
    threads: int,
    sets: Mapping[str, Any],
    folder: Path,
) -> RunResult:
    flush_tree(folder)
    info = info_of(kept, plan.tolerance)
    scores = {column: found for column, (found, _) in columns.items()}
    costs: dict[str, Cost] = {**{column: cost for column, (_, cost) in columns.items()}, CALIBRATING: kept.cost}
    asked = {name: subset_note(name, len(examples), len(sets[name])) for name, examples in read.examples.items()}
    return RunResult(
        kind=plan.kind,
        method=plan.method,
        modality=family.takes,
        plan=plan.model_dump(mode="json"),
        plan_digest=plan.digest(),
        model_digest=source_digest(folder),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sets={name: SetInfo(n=len(rows), digest=plan.digests[name]) for name, rows in read.examples.items()},
        scores=rows_of(scores),
        calibration=info,
        cost={name: CostRow.of(cost) for name, cost in costs.items()},
        environment=environment(threads),
        notes=(
            *guard_notes(plan.after),
            *read.notes,
            *filter(None, asked.values()),
            *notes_of(info, plan.model, plan.after),
        ),
    )


def subset_note(name: str, rows: int, asked: int) -> str:
    """That not all rows of a set were asked; empty where they were."""
    return "" if rows == asked else f"Of the {rows} rows of {name} {asked} were asked, drawn by the seed."
