"""From a plan and its sets to a trained model in a folder: the part that every run of every verb shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate.utils import extract_model_from_parallel

from palimpsest.contract import Method
from palimpsest.control.drive import Guided, drive
from palimpsest.control.learning import Taught, teach
from palimpsest.control.level import Level
from palimpsest.durable import check_held_still, flush_tree, with_usual_modes
from palimpsest.engine.counting import Count, counted
from palimpsest.engine.lost_classes import lost_note, told_before
from palimpsest.engine.output import ONLY_FOR_THE_RUN, TRAINED
from palimpsest.engine.plan import Plan
from palimpsest.engine.prepare import NOBODY, Prepared, prepare_job, stamp_of
from palimpsest.engine.process_peak import peak_bytes
from palimpsest.engine.progress import Progress
from palimpsest.engine.save import MERGED_TOLERANCE, TOLERANCE, answers, load_saved
from palimpsest.errors import DivergedError, FrozenError, RunError
from palimpsest.files import write_atomic
from palimpsest.in_words import so_many
from palimpsest.loop.job import Ended, Job
from palimpsest.loop.run import run
from palimpsest.models.load import Loaded, device, load, source_digest
from palimpsest.models.parts import detach, new_parts_of, parts_of
from palimpsest.models.parts.with_parts import folded, write_version
from palimpsest.models.scope import WHY_STUCK, check_changed, check_moved, leave_scope, parameter_digests
from palimpsest.models.sealed_json import read_sealed, sealed_text
from palimpsest.records import Cost


@dataclass(frozen=True)
class Trained:
    """How a run went.

    Attributes:
        ended: how the loop ended.
        preparing: cost of masks, pairs, references and levels.
        training: cost of the loop.
        notes: of the sets that were made.
        model_digest: of the folder with what was saved.
        level: of never seen, where the run was controlled.
        parts: of preparing and training, of a controlled run: kind of work -> its cost.
    """

    ended: Ended
    preparing: Cost
    training: Cost
    notes: tuple[str, ...]
    model_digest: str
    level: Level | None = None
    parts: Mapping[str, Cost] = field(default_factory=dict)


def train(
    plan: Plan,
    loaded: Loaded,
    sets: Mapping[str, Any],
    folder: Path,
    *,
    progress: Progress,
    trackers: list[str],
    subjects: Mapping[str, str] = NOBODY,
) -> tuple[Trained, Loaded]:
    """Prepare a run, take it to its end, and save the changed model with its tokenizer or preprocessor.

    Args:
        plan: resolved.
        loaded: the model to change, on its device.
        sets: encoded.
        folder: of the run; an interrupted run goes on from the checkpoint there.
        progress: told the steps.
        trackers: for the loop.
        subjects: id -> subject, of rows that have one.

    Returns:
        How it went, and what was saved: loaded from the folder again, on the same device, and found to answer as the
        model that was trained. Let go of it as soon as it was measured: the trained one is in memory, too.

    Raises:
        DivergedError: a loss or gradient is not finite.
        FrozenError: nothing moved, or what is frozen did; or a run without steps changed nothing.
        SavedError: the folder does not answer as the model that was trained.
    """
    told = told_before(loaded, plan)
    with counted(loaded.model) as preparing:
        how: dict[str, Any] = {"progress": progress, "trackers": trackers, "subjects": subjects}
        prepared = prepare_job(plan, loaded, sets, folder, **how)
    mark = folder / TRAINED
    level = prepared.guided.aims.goal.level if isinstance(prepared.guided, Guided) else None
    if mark.is_file():  # it died while what it had saved was measured
        known = read_sealed(mark)
        ended, stuck, weights = Ended.from_json(known["ended"]), tuple(known["stuck"]), known["model_digest"]
        saved = load(folder)
        saved.model.to(device())
    else:
        ended, stuck, saved = _trained(plan, prepared, loaded, sets, preparing)
        flush_tree(folder)
        weights = source_digest(folder)
        write_atomic(mark, sealed_text({"ended": ended.to_json(), "stuck": stuck, "model_digest": weights}))
    training = Cost(ended.seconds, ended.tokens, peak_bytes())
    lost = lost_note(told, sets, saved)
    for note in lost:
        progress(f"note: {note}", 0, 0)
    notes, parts = (*prepared.notes, *stuck, *lost), _parts(ended, prepared.guiding)
    return Trained(ended, preparing.cost(), training, notes, weights, level, parts), saved


def _trained(
    plan: Plan, prepared: Prepared, loaded: Loaded, sets: Mapping[str, Any], preparing: Count
) -> tuple[Ended, tuple[str, ...], Loaded]:
    """The steps, a note on what did not move, and what they made of the model, saved and loaded again."""
    job = prepared.job
    as_prepared = parameter_digests(job.model)
    try:
        with job.stop.listening("step" if prepared.guided is None else "round"):
            ended = _ran(job, prepared.guided)
    except DivergedError as error:
        error.seconds, error.tokens = error.seconds + preparing.seconds, error.tokens + preparing.tokens
        raise
    try:
        if plan.kind == "learn" and ended.unchanged is not None:
            raise _nothing_learned(ended, finds_rate=isinstance(prepared.guided, Taught))
        stuck = _check(job, ended, as_prepared)
        saved = _save(plan, job, ended.method or job.method, loaded.companion, sets, moved=ended.unchanged is None)
    except RunError as error:
        error.seconds, error.tokens = ended.seconds + preparing.seconds, ended.tokens + preparing.tokens
        raise
    return ended, stuck, saved


def _nothing_learned(ended: Ended, *, finds_rate: bool) -> FrozenError:
    """A run that learns left the model as it was: it found no rate, or its method kept nothing and has said why."""
    cure = "give a rate (--lr), a longer run (--max-steps)"
    if not finds_rate:
        return FrozenError(f"nothing was learned: {ended.stopped}; {cure}")
    rehearse = "or more of what must stay to rehearse (--retain FILE, --replay FILE)"
    return FrozenError(f"nothing was learned ({ended.stopped}): {ended.unchanged}; {cure}, {rehearse}")


def _parts(ended: Ended, guiding: Count) -> dict[str, Cost]:
    """What finding the way cost, beside the steps; nothing for a run at a fixed rate."""
    if not ended.parts:
        return {}
    peak = peak_bytes()
    parts = {"level": (guiding.seconds, guiding.tokens), **ended.parts}
    return {name: Cost(seconds, tokens, peak) for name, (seconds, tokens) in parts.items()}


def _check(job: Job, ended: Ended, as_prepared: Mapping[str, str]) -> tuple[str, ...]:
    """Did what had to move move, and nothing else? A note on what is as it was."""
    if ended.unchanged is not None:
        return ()
    if not ended.steps:
        check_changed(job.model, job.at_start)
        return ()
    stuck = check_moved(job.model, as_prepared)
    return (f"{so_many(len(stuck), 'trainable tensor')} did not move, e.g. {stuck[0]}: {WHY_STUCK}.",) if stuck else ()


def _save(plan: Plan, job: Job, method: Method, companion: Any, sets: Mapping[str, Any], *, moved: bool) -> Loaded:
    """Save what a run made of its model, and load it again."""
    model = method.finish(extract_model_from_parallel(job.model, keep_fp32_wrapper=False))
    if not moved:  # what the method added was not trained, and is not what is kept
        detach(model, [part for part in new_parts_of(model) if not part.continues])
    trained = answers(model, sets)
    plain: Any = leave_scope(model, plan.scope)
    check_held_still(job.folder)
    for part in parts_of(plain):
        part.made_by = part.made_by or stamp_of(plan)
    changed = folded(plain) or plan.scope.kind == "lora"
    write_version(plain.eval(), job.folder, safe_serialization=True, **_of_an_adapter(plan))
    if companion is not None:
        companion.save_pretrained(job.folder)
    with_usual_modes(job.folder, ONLY_FOR_THE_RUN)
    return load_saved(job.folder, trained, sets, tolerance=MERGED_TOLERANCE if changed else TOLERANCE)


def _of_an_adapter(plan: Plan) -> dict[str, bool]:
    """PEFT would ask the Hub for a base that is an adapter folder itself; no embedding ever grows here."""
    return {"save_embedding_layers": False} if plan.scope.kind == "lora" and not plan.scope.merge else {}


def _ran(job: Job, guided: Guided | Taught | None) -> Ended:
    """By whoever chooses its rate and length: the forget set's level, the loss that must fall, or the plan."""
    if isinstance(guided, Guided):
        return drive(job, guided)
    return run(job) if guided is None else teach(job, guided)
