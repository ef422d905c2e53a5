"""From checked sets to a job the loop can run: pairs, reference, stopping, method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from palimpsest import methods
from palimpsest.audit.refine import ExtractionTest, Utility, extraction_metrics, measured_levels
from palimpsest.contract import Method
from palimpsest.control.drive import Guided
from palimpsest.control.hands import CONTROL, Tell, Tools
from palimpsest.control.learning import Taught
from palimpsest.data.encode.batch import TextSet
from palimpsest.derived.nearest import Pairs, pair, random_pairs
from palimpsest.engine.counting import Count, counted
from palimpsest.engine.forecast import forecast, most_steps
from palimpsest.engine.guide import guided_by, kept, probes_of, repair_of
from palimpsest.engine.inputs import subset
from palimpsest.engine.plan import Plan
from palimpsest.engine.progress import Progress, silent
from palimpsest.errors import PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.stopping import Stopping
from palimpsest.metrics.evaluate import evaluate_in_run
from palimpsest.models.encoders import decode_tail, embed_with_model, embed_with_sentence_transformer
from palimpsest.models.load import Loaded
from palimpsest.models.reference import build_reference
from palimpsest.models.scope import apply_scope, state_digests

CURVE_LIMIT = 32  # examples of retain and general that every check looks at


@dataclass(frozen=True)
class Prepared:
    """What ``train`` needs.

    Attributes:
        job: for the loop.
        guided: for a controlled run; None at a fixed rate.
        stats: of the pairs; empty without pairs.
        guiding: what own words, level and first readings cost; zeros for a run at a fixed rate.
    """

    job: Job
    guided: Guided | Taught | None
    stats: dict[str, float]
    guiding: Count


def prepare_job(
    plan: Plan, loaded: Loaded, sets: Mapping[str, TextSet], folder: Path, *, progress: Progress, trackers: list[str]
) -> Prepared:
    """Everything the loop needs, built the same way at the start and at every resume.

    Args:
        plan: resolved.
        loaded: the model to change, on its device, as it is before the run.
        sets: encoded; "analogous" is added here when the method asks for it.
        folder: of the run, for checkpoints and the reference.
        progress: told the steps.
        trackers: for the loop.
    """
    sets = dict(sets)
    kind = methods.load(plan.method)
    set_seed(plan.training.seed)
    pairs: Pairs | None = None
    if "analogous" in kind.needs:
        progress("pairing", 0, 1)
        pairs = pairs_for(plan, loaded, sets)
        sets["analogous"] = sets["retain"].subset(pairs.partner.values())
    stopping = _stopping(plan, loaded, sets)
    controlled = plan.control.kind == "auto"
    with counted(loaded.model) as guiding:
        found = kept(plan, loaded, sets, folder / CONTROL) if controlled or plan.repair.steps else None
    drawn = {name: sets[name] for name in kind.draws_from(sets)}

    def renew(number: int) -> Method:
        method = method_with_reference(plan, model, sets, folder / CONTROL / f"reference-{number}", as_it_is=True)
        method.prepare(model, drawn)
        return method

    guided = None
    if controlled and found is not None:
        with counted(loaded.model) as reading:
            tools = Tools(plan.control, probes_of(plan, loaded, sets, found), renew, _told(progress))
            guided = guided_by(plan, loaded, sets, tools)
        guiding = guiding.and_also(reading)
    model = apply_scope(loaded.model, plan.scope)
    at_start = state_digests(model)
    progress("reference", 0, 1)
    repair = None if found is None else repair_of(plan, model, found, folder)
    if progress is not silent and not kind.edits:
        stays = {} if repair is None else repair.sets
        most = most_steps(plan, {**stays, **drawn}) if guided is not None else most_steps(plan, drawn)
        progress("this run", 0, 0, forecast(plan, model, drawn, most))
    method = method_with_reference(plan, model, sets, folder / "reference", as_it_is=False)
    prepared = method.prepare(model, drawn)
    if not method.phases(0, 1):
        guided = None  # its work is done: there is no rate to find
    job = Job(
        method=method,
        model=prepared,
        sets=drawn,
        training=plan.training,
        folder=folder,
        pairs={name: pairs.partner for name in kind.paired if pairs is not None},
        stopping=stopping,
        progress=None if guided is not None else _told_of_steps(progress),
        trackers=trackers,
        repair=repair,
        at_start=at_start,
    )
    return Prepared(job, guided, {} if pairs is None else pairs.stats, guiding)


def _told(progress: Progress) -> Tell:
    return lambda done, total, note: progress("training", done, total, note)


def _told_of_steps(progress: Progress) -> Callable[[int, int, Mapping[str, float]], None]:
    return lambda step, planned, values: progress("training", step, planned, f"loss {values['loss']:.3f}")


def method_with_reference(
    plan: Plan, model: Any, sets: Mapping[str, TextSet], folder: Path, *, as_it_is: bool
) -> Method:
    """The method with its reference, at the weights at hand."""
    kind, config = methods.load(plan.method), methods.configure(plan.method, plan.options)
    wanted = {name: sets[name] for name in sorted(kind.asks_reference_on(config)) if name in sets}
    rows = plan.training.micro_batch_size or plan.training.batch_size  # no pass of a run is wider than a step
    reference = build_reference(model, wanted, folder, batch_size=rows, as_it_is=as_it_is) if wanted else None
    return kind(config, reference)


def pairs_for(plan: Plan, loaded: Loaded, sets: Mapping[str, TextSet]) -> Pairs:
    """The neighbour of each forget example among what is retained, as the plan says they are found."""
    forget, pool, pairing = sets["forget"], sets["retain"], plan.pairing
    if pairing.random:
        return random_pairs(forget, pool, seed=plan.training.seed)
    vectors = [_embed(plan, loaded, examples) for examples in (forget, pool)]
    return pair(forget, pool, *vectors, k=pairing.k, dedup=pairing.dedup, max_overlap=pairing.max_overlap)


def _embed(plan: Plan, loaded: Loaded, examples: TextSet) -> Any:
    pairing = plan.pairing
    if pairing.encoder == "model":
        return embed_with_model(loaded.model, examples, last_tokens=pairing.last_tokens)
    if loaded.tokenizer is None:
        raise PlanError(f"pairing.encoder {pairing.encoder!r} reads text and the model has no tokenizer; use 'model'")
    texts = [decode_tail(loaded.tokenizer, examples[i], pairing.last_tokens) for i in examples.ids]
    return embed_with_sentence_transformer(pairing.encoder, texts)


def _stopping(plan: Plan, loaded: Loaded, sets: Mapping[str, TextSet]) -> Stopping | None:
    """The refinement of the plan; its levels come from the holdout, else from the neighbours."""
    if plan.refine is None:
        return None
    forget = sets["forget"]
    watched = {
        name: subset(sets[name], CURVE_LIMIT, plan.training.seed, name)
        for name in ("retain", "general")
        if name in sets
    }
    utility = Utility(watched, plan.refine.floor) if watched else None
    if utility is not None and plan.refine.floor is not None:
        utility.measure(loaded.model)  # the floor's "before" is this model, also when a checkpoint is laid over it next
    if plan.refine.test != "extraction":
        from palimpsest.audit.continuation import continuation_test

        return continuation_test(plan.refine, forget, loaded, utility)
    source = next((name for name in ("holdout", "analogous", "retain") if name in sets), None)
    if source is None and (plan.refine.ma is None or plan.refine.el is None):
        raise PlanError("refine needs levels: give a --holdout the model never saw, or set refine.ma and refine.el")
    metrics = extraction_metrics(plan.refine)
    own = evaluate_in_run(loaded.model, forget, metrics, eos_ids=loaded.eos_ids)
    comparable = own if source is None else evaluate_in_run(loaded.model, sets[source], metrics, eos_ids=loaded.eos_ids)
    levels = measured_levels(plan.refine, comparable, own, source or "forget")
    return ExtractionTest(forget, levels, plan.refine, eos_ids=loaded.eos_ids, utility=utility)
