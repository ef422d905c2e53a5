"""From checked sets to a job the loop can run: derived sets, reference, stopping, method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate.utils import set_seed

from palimpsest import derived, methods, rules
from palimpsest.audit.refine import ExtractionTest, Levels, Utility, extraction_metrics, measured_levels
from palimpsest.audit.refinement import Refinement
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.contract import Method
from palimpsest.control.drive import Guided
from palimpsest.control.hands import CONTROL, Renew, Tell, Tools
from palimpsest.control.learning import Taught
from palimpsest.data.encode.batch import ExampleSet, TextSet
from palimpsest.data.encode.controlled import as_shown
from palimpsest.data.encode.varied import as_written
from palimpsest.derived.made import Made
from palimpsest.engine.arranging import arranged_sets
from palimpsest.engine.counting import Count, counted
from palimpsest.engine.edit_aim import aim_of
from palimpsest.engine.forecast import forecast, work_of
from palimpsest.engine.guide import Kept, guided_by, kept, probes_of, repair_of
from palimpsest.engine.handing_on import companions_read, start_of
from palimpsest.engine.inputs import subset
from palimpsest.engine.plan import Plan
from palimpsest.engine.progress import Progress, silent
from palimpsest.engine.steps_given import unused_note
from palimpsest.errors import PlanError
from palimpsest.in_words import so_many
from palimpsest.loop.job import Job, Repair
from palimpsest.loop.legs import Leg, legs_of, takes_steps
from palimpsest.loop.stopping import Stopping
from palimpsest.metrics.evaluate import evaluate_in_run
from palimpsest.models.families import of_model
from palimpsest.models.load import Loaded
from palimpsest.models.parts import attach
from palimpsest.models.reference import build_reference
from palimpsest.models.scope import apply_scope, state_digests
from palimpsest.models.unread import leave_out_unread
from palimpsest.rules.rule import Setting
from palimpsest.rules.rule_stack import RuleStack

DERIVED_SETS = "derived"  # folder of a run for what cannot be made twice
NOBODY: Mapping[str, str] = MappingProxyType({})
CURVE_LIMIT = 32  # examples of retain and general that every check looks at


@dataclass(frozen=True)
class Prepared:
    """What ``train`` needs.

    Attributes:
        job: for the loop.
        guided: for a controlled run; None at a fixed rate.
        notes: of the sets that were made.
        guiding: what own words, level and first readings cost; zeros for a run at a fixed rate.
    """

    job: Job
    guided: Guided | Taught | None
    notes: tuple[str, ...]
    guiding: Count


def prepare_job(
    plan: Plan,
    loaded: Loaded,
    sets: Mapping[str, Any],
    folder: Path,
    *,
    progress: Progress,
    trackers: list[str],
    subjects: Mapping[str, str] = NOBODY,
) -> Prepared:
    """Everything the loop needs, built the same way at the start and at every resume.

    Args:
        plan: resolved.
        loaded: the model to change, on its device, as it is before the run.
        sets: encoded; the derived ones are added here when the method asks for them.
        folder: of the run, for checkpoints and the reference.
        progress: told the steps.
        trackers: for the loop.
        subjects: id -> subject, of rows that have one.
    """
    kind = methods.load(plan.method)
    set_seed(plan.training.seed)
    varied, sets = sets, {name: as_written(examples) for name, examples in sets.items()}
    made = made_sets(plan, loaded, sets, folder, progress)
    sets = {**sets, **{name: one.examples for name, one in made.items()}}
    stopping = _stopping(plan, loaded, sets)
    with counted(loaded.model) as guiding:
        found = kept(plan, loaded, sets, folder / CONTROL) if _keeps(plan) else None
    drawn = {name: varied.get(name, sets[name]) for name in kind.draws_from(sets)}
    shown = _shown(drawn, plan)
    arranged = arranged_sets(plan, loaded, shown, subjects)

    def renew(number: int) -> Method:
        method = method_with_reference(plan, model, sets, folder / CONTROL / f"reference-{number}", as_it_is=True)
        method.recording, method.subjects = folder / RECORDING, subjects
        method.prepare(model, shown)
        return method

    with counted(loaded.model) as reading:
        guided, aim = _guided(plan, loaded, sets, found, (renew, _told(progress))), aim_of(plan, loaded, sets)
    add_parts(plan, loaded.model, drawn)
    model, sets = apply_scope(loaded.model, plan.scope), {**sets, **drawn}
    left_out, at_start = _left_out(model, drawn), state_digests(model)
    progress("reference", 0, 1)
    repair = None if found is None else repair_of(plan, model, found, folder)
    stays = _rehearsed(guided, repair)
    _tell_cost(plan, model, drawn, stays, progress)
    method, prepared, stack = set_up(plan, model, sets, shown, folder)
    method.aim, method.subjects, legs = aim, subjects, legs_of(method, prepared, shown, plan.training)
    _tell_cost(plan, model, drawn, stays, progress, legs=legs)
    if not takes_steps(method, legs):
        guided, legs = None, ()  # its work is done: there is no rate to find
    job = Job(
        method=method,
        model=prepared,
        sets=shown,
        training=plan.training,
        folder=folder,
        pairs=_pairs(kind.paired, made),
        stopping=stopping,
        progress=None if guided is not None else _told_of_steps(progress),
        trackers=trackers,
        repair=repair,
        rules=stack,
        arranged=arranged,
        at_start=at_start,
    )
    notes = (*_notes(made, found), *left_out, *unused_note(plan, legs), *method.notes())
    return Prepared(job, guided, notes, guiding.and_also(reading))


def _guided(
    plan: Plan, loaded: Loaded, sets: Mapping[str, Any], found: Any, hands: tuple[Renew, Tell]
) -> Guided | Taught | None:
    """What a controlled run aims at; None at a fixed rate, or where nothing is looked at."""
    if plan.control.kind != "auto" or found is None:
        return None
    return guided_by(plan, loaded, sets, Tools(plan.control, probes_of(plan, loaded, sets, found), *hands))


def set_up(
    plan: Plan, model: Any, sets: Mapping[str, Any], shown: Mapping[str, Any], folder: Path
) -> tuple[Method, Any, RuleStack]:
    """The method and its rules at the weights that the run starts from, and the model as the method prepared it."""
    method = method_with_reference(plan, model, sets, folder / "reference", as_it_is=False)
    method.recording = folder / RECORDING
    prepared = method.prepare(model, shown)
    stack = RuleStack(
        method.rules(), [*map(rules.rule_of, plan.rules)], Setting(folder, plan.training.seed, start_of(plan))
    )
    stack.prepare(prepared, shown, sets)
    return method, prepared, stack


def add_parts(plan: Plan, model: Any, drawn: Mapping[str, Any]) -> None:
    """Attach what the method adds to the model; nothing, and nothing drawn, for one that adds nothing."""
    kind = methods.load(plan.method)
    if not kind.adds_parts:
        return
    devices = range(torch.accelerator.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(plan.training.seed)
        made = kind(methods.configure(plan.method, plan.options)).parts(model, drawn, plan.training.seed)
    for part in made:
        part.is_new, part.made_by = True, stamp_of(plan)
    attach(model, made)


def stamp_of(plan: Plan) -> dict[str, str]:
    """What a part says of the run that it came from."""
    return {"method": plan.method, "run": plan.digest()[:16]}


def _shown(drawn: Mapping[str, Any], plan: Plan) -> dict[str, ExampleSet]:
    """The sets as the method sees them. All that measures, repairs or remembers sees them whole."""
    return {name: as_shown(examples, plan.controls.get(name)) for name, examples in drawn.items()}


def _pairs(paired: Iterable[str], made: Mapping[str, Made]) -> dict[str, Mapping[str, str]]:
    """Paired set -> {anchor id: its partner's id in that set}."""
    return {name: made[name].partner for name in paired if name in made}


def _notes(made: Mapping[str, Made], found: Kept | None) -> tuple[str, ...]:
    said = [*(one.note for one in made.values()), "" if found is None else found.note]
    return tuple(filter(None, said))


def _left_out(model: Any, drawn: Mapping[str, Any]) -> tuple[str, ...]:
    """Freeze what no forward pass reads; a note on it."""
    unread = leave_out_unread(model, [examples.plain().batch(examples.ids[:1]) for examples in drawn.values()])
    if not unread:
        return ()
    which = f"{so_many(len(unread), 'tensor')}, e.g. {unread[0]}"
    return (f"Left as they are: {which}, which the forward pass never reads.",)


def _keeps(plan: Plan) -> bool:
    """Does anything of the run look at what must stay?"""
    return plan.control.kind == "auto" or plan.repair.steps > 0


def made_sets(plan: Plan, loaded: Loaded, sets: Mapping[str, Any], folder: Path, progress: Progress) -> dict[str, Made]:
    """The sets that the method needs and the run makes, and those in the place of sets that were not given."""
    kind, made = methods.load(plan.method), dict[str, Made]()
    stand_in = derived.stand_in(kind.instead, sets, loaded.family)
    for name in (*derived.of_needs(kind.needs), *stand_in):
        progress(f"making the {name.replace('_', ' ')} set", 0, 1)
        config = plan.derived_config(name)
        made[name] = derived.load(name).make(
            loaded, sets, config, seed=plan.training.seed, folder=folder / DERIVED_SETS
        )
    return {name: one for name, one in made.items() if name not in stand_in or len(one.examples)}


def _rehearsed(guided: Guided | Taught | None, repair: Repair | None) -> Mapping[str, Any]:
    return {} if guided is None or repair is None else repair.sets


def _tell_cost(
    plan: Plan,
    model: Any,
    drawn: Mapping[str, TextSet],
    stays: Mapping[str, Any],
    progress: Progress,
    *,
    legs: Sequence[Leg] | None = None,
) -> None:
    """What the run will cost at most; of a controlled one with what repair rehearses.

    It is said first thing, but for a method that names its stages: of that as soon as they are known. An edit alone
    costs no step.
    """
    kind = methods.load(plan.method)
    is_staged = kind.stages is not Method.stages
    now = not (is_staged or kind.edits) if legs is None else is_staged and bool(legs)
    if now and progress is not silent and of_model(model).has_gradient:
        progress("this run", 0, 0, forecast(plan, model, drawn, work_of(plan, drawn, stays, legs or ())))


def _told(progress: Progress) -> Tell:
    return lambda done, total, note: progress("training", done, total, note)


def _told_of_steps(progress: Progress) -> Callable[[int, int, Mapping[str, Any]], None]:
    def tell(step: int, planned: int, values: Mapping[str, Any]) -> None:
        stage = f"{values['stage']}, " if "stage" in values else ""
        progress("training", step, planned, f"{stage}loss {values['loss']:.3f}")

    return tell


def method_with_reference(plan: Plan, model: Any, sets: Mapping[str, Any], folder: Path, *, as_it_is: bool) -> Method:
    """The method with its reference, at the weights at hand."""
    kind, config = methods.load(plan.method), methods.configure(plan.method, plan.options)
    wanted = {name: sets[name] for name in sorted(kind.asks_reference_on(config)) if name in sets}
    rows = plan.training.micro_batch_size or plan.training.batch_size  # no pass of a run is wider than a step
    places = kind.asks_outputs_of(config, model) if wanted else ()
    how: dict[str, Any] = {"batch_size": rows, "as_it_is": as_it_is, "places": places}
    method = kind(config, build_reference(model, wanted, folder, **how) if wanted else None)
    method.companions = companions_read(plan)
    return method


def _stopping(plan: Plan, loaded: Loaded, sets: Mapping[str, Any]) -> Stopping | None:
    """The refinement of the plan; its levels come from the holdout, else from the neighbours."""
    if plan.refine is None:
        return None
    utility = _utility(plan.refine, loaded, sets, seed=plan.training.seed)
    if plan.refine.test == "gap":
        from palimpsest.audit.gap_stop import GapTest

        return GapTest(sets["forget"], plan.refine, utility)
    if plan.refine.test != "extraction":
        from palimpsest.audit.continuation import continuation_test

        return continuation_test(plan.refine, sets["forget"], loaded, utility)
    levels = _levels(plan.refine, loaded, sets)
    return ExtractionTest(sets["forget"], levels, plan.refine, eos_ids=loaded.eos_ids, utility=utility)


def _utility(refine: Refinement, loaded: Loaded, sets: Mapping[str, Any], *, seed: int) -> Utility | None:
    """What every check looks at beside the forget set, and its floor; None where there is nothing to look at."""
    watched = {name: subset(sets[name], CURVE_LIMIT, seed, name) for name in ("retain", "general") if name in sets}
    if not watched:
        return None
    utility = Utility(watched, refine.floor)
    if refine.floor is not None:
        utility.measure(loaded.model)  # the floor's "before" is this model, also when a checkpoint is laid over it next
    return utility


def _levels(refine: Refinement, loaded: Loaded, sets: Mapping[str, Any]) -> Levels:
    """The levels at which an example passes: those that were given, the others measured on what is comparable."""
    source = next((name for name in ("holdout", "analogous", "retain") if name in sets), None)
    if source is None and (refine.ma is None or refine.el is None):
        raise PlanError("refine needs levels: give a --holdout the model never saw, or set refine.ma and refine.el")
    metrics = extraction_metrics(refine)
    own = evaluate_in_run(loaded.model, sets["forget"], metrics, eos_ids=loaded.eos_ids)
    comparable = own if source is None else evaluate_in_run(loaded.model, sets[source], metrics, eos_ids=loaded.eos_ids)
    return measured_levels(refine, comparable, own, source or "forget")
