"""From a plan and its sets to a trained model in a folder: the part that every run of every verb shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.control.drive import Guided, drive
from palimpsest.control.learning import Taught, teach
from palimpsest.control.level import Level
from palimpsest.errors import DivergedError
from palimpsest.loop.job import Ended, Job
from palimpsest.loop.run import run
from palimpsest.models.load import Loaded
from palimpsest.models.scope import check_moved, leave_scope, parameter_digests
from palimpsest.records import Cost
from palimpsest.verbs.counting import counted
from palimpsest.verbs.memory import peak_bytes
from palimpsest.verbs.plan import Plan
from palimpsest.verbs.prepare import prepare_job
from palimpsest.verbs.progress import Progress


@dataclass(frozen=True)
class Trained:
    """How a run went.

    Attributes:
        model: plain, in eval mode; saved in the folder.
        ended: how the loop ended.
        preparing: cost of masks, pairs, references and levels.
        training: cost of the loop.
        stats: of the pairs; empty without.
        level: of never seen, where the run was controlled.
    """

    model: Any
    ended: Ended
    preparing: Cost
    training: Cost
    stats: Mapping[str, float]
    level: Level | None = None


def train(
    plan: Plan, loaded: Loaded, sets: Mapping[str, Any], folder: Path, *, progress: Progress, trackers: list[str]
) -> Trained:
    """Prepare a run, take it to its end, and save the changed model with its tokenizer or preprocessor.

    Args:
        plan: resolved.
        loaded: the model to change, on its device.
        sets: encoded.
        folder: of the run; an interrupted run goes on from the checkpoint there.
        progress: told the steps.
        trackers: for the loop.

    Raises:
        DivergedError: a loss or gradient is not finite.
        FrozenError: a trainable tensor did not move, or a frozen one did.
    """
    with counted(loaded.model) as preparing:
        prepared = prepare_job(plan, loaded, sets, folder, progress=progress, trackers=trackers)
    job = prepared.job
    at_start = parameter_digests(job.model)
    try:
        ended = _ran(job, prepared.guided)
    except DivergedError as error:
        error.seconds, error.tokens = error.seconds + preparing.seconds, error.tokens + preparing.tokens
        raise
    if ended.steps and ended.unchanged is None:
        check_moved(job.model, at_start)
    training = Cost(ended.seconds, ended.tokens, peak_bytes())
    plain: Any = leave_scope(job.method.finish(job.model), plan.scope)
    plain.eval().save_pretrained(folder, safe_serialization=True)
    if loaded.companion is not None:
        loaded.companion.save_pretrained(folder)
    level = prepared.guided.goal.level if isinstance(prepared.guided, Guided) else None
    return Trained(plain, ended, preparing.cost(), training, prepared.stats, level)


def _ran(job: Job, guided: Guided | Taught | None) -> Ended:
    """By whoever chooses its rate and length: the forget set's level, the loss that must fall, or the plan."""
    if isinstance(guided, Guided):
        return drive(job, guided)
    return run(job) if guided is None else teach(job, guided)
