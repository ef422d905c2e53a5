"""A hardening from plan to record: a whole version folder, or none.

    scores before -> what the model says of what stays, kept -> noise -> distillation, from checkpoint to checkpoint
                  -> save -> load it again, same answers -> scores after -> result.json, report.html, learned.json

Nothing but what the model itself says is taught, on rows that stay, so that nothing can come back that it did not say.
Whoever dies in between goes on from the last checkpoint to the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from palimpsest.contract import Config
from palimpsest.durable import check_held_still, flush_tree, with_usual_modes
from palimpsest.engine.given import Manner
from palimpsest.engine.hardening_plan import HardeningPlan
from palimpsest.engine.inputs import Read, encode_sets, subset
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.measuring import measure_sets
from palimpsest.engine.outcome import environment
from palimpsest.engine.output import ONLY_FOR_THE_RUN, Output
from palimpsest.engine.process_peak import peak_bytes
from palimpsest.engine.said_again import LOOKED_AT, SaidAgain
from palimpsest.engine.save import TOLERANCE, answers, load_saved
from palimpsest.engine.whole_folder import made_whole
from palimpsest.in_words import show
from palimpsest.loop.job import Ended, Job
from palimpsest.loop.repair import BETAS, Keeping
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.load import Loaded, device, load, source_digest, use_threads
from palimpsest.models.noised import drown, usual_rate
from palimpsest.models.parts.with_parts import write_version
from palimpsest.models.reference import build_reference
from palimpsest.models.scope import Scope, apply_scope
from palimpsest.records import Cost, TokenIds
from palimpsest.report.schema import CostRow, RunResult, SetInfo, rows_of

TAUGHT = ("retain", "replay", "general")
WARM = 20  # steps in which the rate rises
FLOORED = ("es", "ma", "accuracy")
STAYED = 0.9  # of these of retain, or it is said
CAME_BACK = 0.05  # of ES or MA that forgotten rows may gain before it is said
_UNTOUCHED = Ended("nothing to do at alpha 0", None, 0, 0.0, 0.0, 0)


class _Distilling(Keeping):
    """The loss of repair, over what stays: here the model before is the one that forgot."""

    needs = ("retain",)
    uses = ("replay", "general")


@dataclass(frozen=True)
class _Hardening:
    """One that is at work."""

    plan: HardeningPlan
    manner: Manner
    target: Output
    loaded: Loaded
    sets: Mapping[str, Any]

    def measured(self, column: str, loaded: Loaded) -> Measured:
        """Scores, each taken once."""
        how: dict[str, Any] = {"seed": self.plan.seed, "column": column, "progress": self.manner.progress}
        return self.target.remember(column, lambda: measure_sets(loaded, self.sets, self.plan.measuring, **how))

    def distilled(self) -> Ended:
        """Noise and distillation, in place."""
        plan, model = self.plan, apply_scope(self.loaded.model, Scope())
        if not plan.alpha:
            return _UNTOUCHED
        taught = {name: self.sets[name] for name in TAUGHT if name in self.sets}
        reference = build_reference(model, taught, self.target.partial / "reference", batch_size=plan.batch_size)
        rate = usual_rate(model) if plan.learning_rate is None else plan.learning_rate
        drown(model, alpha=plan.alpha, beta=plan.beta, seed=plan.seed)
        method = _Distilling(Config(), reference)
        method.prepare(model, taught)
        looked_at = subset(taught["retain"].plain(), LOOKED_AT, plan.seed, "retain")
        enough = SaidAgain(method, taught["retain"], looked_at)
        training = _training(plan, rate)
        job = Job(method, model, taught, training, self.target.partial, stopping=enough, progress=self._told)
        with job.stop.listening("step"):
            return run(job)

    def _told(self, step: int, planned: int, values: Mapping[str, Any]) -> None:
        self.manner.progress("distilling", step, planned, f"loss {values['loss']:.3f}")

    def saved(self) -> Loaded:
        """The version on the disk, found to answer as the model in memory."""
        model, folder = self.loaded.model, self.target.partial
        said = answers(model, self.sets)
        check_held_still(folder)
        write_version(model.eval(), folder, safe_serialization=True)
        if self.loaded.companion is not None:
            self.loaded.companion.save_pretrained(folder)
        with_usual_modes(folder, ONLY_FOR_THE_RUN)
        return load_saved(folder, said, self.sets, tolerance=TOLERANCE)


def _training(plan: HardeningPlan, rate: float) -> Training:
    """Warm and falling, as a model is trained that hardly knows anything."""
    return Training(
        seed=plan.seed,
        learning_rate=rate,
        lr_scheduler_type="linear",
        warmup_steps=WARM,
        betas=BETAS,
        batch_size=plan.batch_size,
        num_train_epochs=plan.epochs,
    )


def execute_hardening(plan: HardeningPlan, read: Read, manner: Manner) -> RunResult:
    """Harden into an output folder; as ``made_whole``.

    Args:
        plan: with the digests of its inputs.
        read: its sets.
        manner: where to, and how it goes about it.
    """
    return made_whole(plan, manner, lambda target: _made(plan, read, manner, target), lambda _: plan.model)


def _made(plan: HardeningPlan, read: Read, manner: Manner, target: Output) -> RunResult:
    """Everything that loads, measures, trains and saves."""
    asks_words = any(not isinstance(e.content, TokenIds) for rows in read.examples.values() for e in rows)
    loaded = load(plan.model, revision=plan.revision, tokenizer_needed=asks_words)
    loaded.model.to(device())
    threads = use_threads(loaded.model, manner.threads)
    work = _Hardening(plan, manner, target, loaded, encode_sets(read.examples, loaded, plan.encoding))
    columns = {"before": work.measured("before", loaded)}
    ended = work.distilled()
    columns["after"] = work.measured("after", work.saved())
    flush_tree(target.partial)
    scores = rows_of({column: found for column, (found, _) in columns.items()})  # type: ignore[misc]
    costs = {column: cost for column, (_, cost) in columns.items()}
    costs["training"] = Cost(ended.seconds, ended.tokens, peak_bytes())
    return RunResult(
        kind=plan.kind,
        method=plan.method,
        modality=loaded.family.takes,
        plan=plan.model_dump(mode="json"),
        plan_digest=plan.digest(),
        model_digest=source_digest(target.partial),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sets={name: SetInfo(n=len(rows), digest=plan.digests[name]) for name, rows in read.examples.items()},
        scores=scores,
        stopped=ended.stopped if not ended.budget else f"budget: {ended.budget}",
        cost={name: CostRow.of(cost) for name, cost in costs.items()},
        environment=environment(threads),
        notes=(*read.notes, *_notes(plan, columns)),
    )


def _notes(plan: HardeningPlan, columns: Mapping[str, Measured]) -> tuple[str, ...]:
    """How far it went, and what it did to the rows that were forgotten."""
    share = f"{plan.alpha:.0%} of every weight gave way to noise, and what the model had said was taught again."
    share += _what_was_lost(columns)
    before, after = (columns[column][0].get("forget", {}) for column in ("before", "after"))
    told = []
    for key, was in before.items():
        now = after[key]
        if was.value is not None and now.value is not None:
            back = "came back in part" if now.value > was.value + CAME_BACK else "stayed forgotten"
            told.append(f"{key} {show(was.value)} before and {show(now.value)} after: {back}")
    return (share, f"Of the forget set: {'; '.join(told)}.") if told else (share,)


def _what_was_lost(columns: Mapping[str, Measured]) -> str:
    """A sentence where what stays did not come back, and what to do."""
    before, after = (columns[column][0].get("retain", {}) for column in ("before", "after"))
    for key, was in before.items():
        now = after[key]
        if key in FLOORED and was.value and now.value is not None and now.value < STAYED * was.value:
            return (
                f" Of retain not all came back: {key} {show(was.value)} before and {show(now.value)} after; give more "
                "epochs, more rows of what stays (replay, general), or a smaller alpha."
            )
    return ""
