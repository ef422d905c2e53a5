"""One run of a bench, through the same plan, preparation and loop as every other run, kept by its plan's digest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palimpsest.bench.perform.cache import locked
from palimpsest.durable import flush_tree
from palimpsest.engine.handing_on import change_by, hand_on
from palimpsest.engine.head_growth import grown
from palimpsest.engine.output import RESULT, Output
from palimpsest.engine.plan import Plan
from palimpsest.engine.progress import silent
from palimpsest.engine.sound import drop_damaged
from palimpsest.engine.train import train
from palimpsest.engine.whose import remove_ours
from palimpsest.errors import RunError, UsageError
from palimpsest.files import write_atomic
from palimpsest.method_card import Kind
from palimpsest.models.load import Loaded, device, load
from palimpsest.models.parts.parts_folder import BASE, PARTS
from palimpsest.report.row import ReportRow


class RunFacts(ReportRow):
    """What a run did."""

    plan: str
    """Digest of its plan."""
    kind: Kind
    """What it was for."""
    stopped: str | None = None
    """Why it could not end as planned, or None."""
    seconds: float = 0.0
    """Wall-clock: preparation and loop, over all resumes; loading and saving apart."""
    tokens: int = 0
    """Positions that went forward, in preparation and loop."""
    steps: int = 0
    """Optimizer iterations."""
    norm: float = 0.0
    """L2 distance of the parameters from where the run started."""


Encoder = Callable[[Loaded], Mapping[str, Any]]


def perform(plan: Plan, start: Path, encoder: Encoder, folder: Path) -> RunFacts:
    """Run a plan once and for all: done before, its facts come back; died before, it goes on.

    Args:
        plan: with the digests of its data and of the model it starts from.
        start: folder of that model.
        encoder: gives the sets for that model.
        folder: of the finished run: its model and ``result.json``.

    Raises:
        UsageError: the run cannot begin; nothing is left of it.
    """
    target = Output(folder)
    with locked(folder):
        if not target.finished(plan):
            with target.held():
                if not target.finished(plan):
                    _perform(plan, start, encoder, target)
        return RunFacts.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))


def _perform(plan: Plan, start: Path, encoder: Encoder, target: Output) -> None:
    """Train, and put the run in place."""
    target.begin(plan)
    drop_damaged(target.partial, silent)
    try:
        facts = _train(plan, start, encoder, target.partial)
    except RunError as error:  # the same plan would end so again: this is its result
        why = f"{type(error).__name__}: {error}"
        model = (*target.partial.glob("*.safetensors"), target.partial / BASE, target.partial / PARTS)
        for weights in model:  # of a model that nobody should take for an answer
            remove_ours(weights)
        facts = RunFacts(plan=plan.digest(), kind=plan.kind, stopped=why, seconds=error.seconds, tokens=error.tokens)
    except UsageError:  # second: to find nothing to edit is both
        target.abandon()
        raise
    flush_tree(target.partial)
    write_atomic(target.partial / RESULT, facts.model_dump_json(indent=1) + "\n")
    target.complete()


def _train(plan: Plan, start: Path, encoder: Encoder, folder: Path) -> RunFacts:
    loaded = grown(load(start), plan)
    loaded.model.to(device())
    sets = encoder(loaded)
    trained, saved = train(plan, loaded, sets, folder, progress=silent, trackers=[])
    forget = sets["forget"].ids if "forget" in sets else ()
    hand_on(start, folder, change_by(plan, forget, steps=trained.ended.steps, model=trained.model_digest))
    del loaded  # one model less while the distance is taken
    return RunFacts(
        plan=plan.digest(),
        kind=plan.kind,
        norm=_distance(saved.model, grown(load(start), plan).model),
        seconds=trained.preparing.seconds + trained.training.seconds,
        tokens=trained.preparing.tokens + trained.training.tokens,
        steps=trained.ended.steps,
    )


def _distance(after: Any, before: Any) -> float:
    """L2 distance between the parameters of two models of one shape; those that were added count from 0."""
    old = {name: p.detach() for name, p in before.named_parameters()}
    parts = [
        float((p.detach().cpu() - old.get(name, 0)).double().square().sum()) for name, p in after.named_parameters()
    ]
    return math.sqrt(sum(parts))
