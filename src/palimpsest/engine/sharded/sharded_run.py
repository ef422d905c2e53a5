"""A sharded run: rows cut, slices learned or learned again, an ensemble of what came out, saved and loaded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.companions.shards import Shards, SliceRecord, recorded_by
from palimpsest.durable import check_held_still, flush_tree, with_usual_modes
from palimpsest.engine.counting import Count, counted
from palimpsest.engine.forecast import seconds_per_position
from palimpsest.engine.output import ONLY_FOR_THE_RUN, TRAINED
from palimpsest.engine.plan import Plan
from palimpsest.engine.process_peak import peak_bytes
from palimpsest.engine.progress import Progress
from palimpsest.engine.save import TOLERANCE, answers, load_saved
from palimpsest.engine.sharded.cutting import ShardCourse, courses_to_learn, courses_to_unlearn
from palimpsest.engine.sharded.foretold import SHARD_ROWS, Effort, busiest, effort_together, foretelling, lengths_of
from palimpsest.engine.sharded.lessons import (
    Learned,
    Setup,
    adapted_layers,
    file_of_lesson,
    learn_shard,
    new_adapters,
    read_adapters,
)
from palimpsest.engine.sharded.recipe import REPLAY, Recipe, recipe_in, shards_beside
from palimpsest.engine.sharded.shard_processes import learn_side_by_side, usual_processes
from palimpsest.engine.train import Trained
from palimpsest.errors import DataError, ModelError
from palimpsest.files import write_atomic
from palimpsest.in_words import so_many
from palimpsest.loop.job import Ended
from palimpsest.loop.stop import Stop
from palimpsest.models.deciding import file_digest
from palimpsest.models.load import Loaded, device, load, source_digest
from palimpsest.models.parts import attach, detach
from palimpsest.models.parts.ensemble import Ensemble, EnsembleConfig, ensemble_of
from palimpsest.models.parts.lora import Lora
from palimpsest.models.parts.with_parts import write_version
from palimpsest.models.sealed_json import read_sealed, sealed_text
from palimpsest.records import Cost


@dataclass(frozen=True)
class ShardedRun:
    """One run, with all that its steps share.

    Attributes:
        plan: resolved.
        recipe: of the slices.
        setup: of the loop, with all rows that the version knows afterwards.
        shards: the checkpoints of the version that it starts from; None to learn.
        key: of the marks.
        courses: what is learned.
        places: id -> shard and slice, of these rows.
    """

    plan: Plan
    recipe: Recipe
    setup: Setup
    shards: Shards | None
    key: MarkKey
    courses: Sequence[ShardCourse]
    places: Mapping[str, tuple[int, int]]


def train_shards(
    plan: Plan, loaded: Loaded, sets: Mapping[str, Any], folder: Path, *, progress: Progress
) -> tuple[Trained, Loaded]:
    """Take a sharded run to its end, and save the version that comes out.

    Args:
        plan: resolved; ``check_sharded`` has passed.
        loaded: the model before it, on its device; what bears an ensemble loses it.
        sets: encoded.
        folder: of the run; an interrupted run goes on from what was learned there.
        progress: told the cost, before anything is learned, and the slices.

    Returns:
        As ``engine.train.train``.

    Raises:
        ModelError: a checkpoint that is needed is not there.
        DivergedError: a loss or gradient is not finite.
        SavedError: the folder does not answer as the model that was trained.
    """
    with counted(loaded.model) as preparing:
        earlier = without_ensemble(loaded.model)
        run = _opened(plan, sets, folder)
        threads = torch.get_num_threads()
        processes = _processes(run, threads)
        foretold = _foretell(run, loaded.model, processes, progress)
    mark = folder / TRAINED
    if mark.is_file():  # it died while what it had saved was measured
        known = read_sealed(mark)
        ended, weights, saved = Ended.from_json(known["ended"]), known["model_digest"], load(folder)
        saved.model.to(device())
    else:
        taken = _learned(run, loaded.model, processes, threads, progress)
        ended = _ended(run, taken)
        saved = _saved(run, loaded, earlier, sets)
        flush_tree(folder)
        weights = source_digest(folder)
        write_atomic(mark, sealed_text({"ended": ended.to_json(), "stuck": (), "model_digest": weights}))
    return _trained(run, ended, preparing, foretold, weights), saved


def without_ensemble(model: Any) -> Ensemble | None:
    """Take the ensemble off a model."""
    found = ensemble_of(model)
    if found is not None:
        detach(model, [found])
    return found


def _opened(plan: Plan, sets: Mapping[str, Any], folder: Path) -> ShardedRun:
    """The run with what it has to learn."""
    key, recipe = own_key(), recipe_in(plan)
    if key is None:
        raise DataError("there is no key by which rows could be told apart")  # `check_sharded` says so first
    drawn = {name: sets[name] for name in (SHARD_ROWS, REPLAY) if name in sets}
    setup = Setup(folder, plan.method, plan.options, plan.training, drawn)
    if plan.kind == "learn":
        courses = courses_to_learn(sets["learn"].ids, recipe)
        places = {i: (c.shard, one.piece) for c in courses for one in reversed(c.lessons) for i in one.ids}
        return ShardedRun(plan, recipe, setup, None, key, courses, places)
    shards = shards_beside(plan)
    if shards is None:
        raise ModelError(f"the shards of {plan.model} are gone")
    kept, gone = shards.place_of(sets["retain"].ids), frozenset(shards.place_of(sets["forget"].ids).values())
    courses = courses_to_unlearn(kept, gone, recipe, None if plan.options["from_base"] else shards)
    setup = setup._replace(sets={**drawn, SHARD_ROWS: sets["retain"].subset(kept)})
    return ShardedRun(plan, recipe, setup, shards, key, courses, kept)


def _processes(run: ShardedRun, threads: int) -> int:
    """At the same time: as asked for, no more than there are shards to learn."""
    busy = sum(bool(course.lessons) for course in run.courses)
    asked = run.plan.options["processes"]
    able = usual_processes(threads, on_accelerator=torch.accelerator.is_available())
    return max(1, min(busy, int(asked) if asked is not None else able))


def _foretell(run: ShardedRun, model: Any, processes: int, progress: Progress) -> Cost:
    """What the run will cost; said before it begins."""
    lengths, training = lengths_of(run.setup.sets), run.plan.training
    each = [effort_together(course.lessons, training, lengths) for course in run.courses]
    effort = Effort(sum(one.steps for one in each), sum(one.positions for one in each))
    whole = effort_together(_all_lessons(run), training, lengths).positions
    seconds = 0.0
    if effort.steps:
        layers = adapted_layers(model, int(run.plan.options["rank"]), float(run.plan.options["lora_alpha"]))
        part = new_adapters(layers, training.seed, 0)
        model.requires_grad_(False)
        attach(model, [part])
        seconds = seconds_per_position(model, run.setup.sets[SHARD_ROWS], training.batch_size)
        detach(model, [part])
        seconds *= busiest([one.positions for one in each], processes)
    progress("this run", 0, 0, foretelling(run.courses, effort, whole, seconds, processes))
    return Cost(seconds, effort.positions, 0)


def _all_lessons(run: ShardedRun) -> Sequence[Any]:
    """Every slice of every shard, as if all were learned anew."""
    if run.shards is None:
        return [lesson for course in run.courses for lesson in course.lessons]
    everywhere = frozenset((shard, 0) for shard, _ in run.places.values())
    return [
        lesson for course in courses_to_unlearn(run.places, everywhere, run.recipe, None) for lesson in course.whole
    ]


def _learned(run: ShardedRun, model: Any, processes: int, threads: int, progress: Progress) -> list[list[Learned]]:
    """Learn all slices, here or in processes of their own; what each took."""
    busy = [course for course in run.courses if course.lessons]
    if processes > 1:
        source = (run.plan.model, run.plan.revision)

        def done(count: int, shard: int) -> None:
            progress("training", count, len(busy), f"shard {shard + 1} is done")

        return learn_side_by_side(source, busy, run.setup, processes=processes, threads=threads, done=done)
    stop, found = Stop(), []
    with stop.listening("step"):
        for course in busy:

            def told(lesson: Any, step: int, planned: int, loss: float) -> None:
                where = f"shard {lesson.shard + 1}, slice {lesson.piece + 1}"
                progress("training", step, planned, f"{where}, loss {loss:.3f}")

            found.append(learn_shard(model, course, run.setup, stop=stop, told=told))
    return found


def _ended(run: ShardedRun, taken: Sequence[Sequence[Learned]]) -> Ended:
    """How it ended, over all slices."""
    all_of_them = [one for shard in taken for one in shard]
    steps, tokens = sum(one.steps for one in all_of_them), sum(one.positions for one in all_of_them)
    what = "learned" if run.shards is None else "learned again"
    words = f"{so_many(len(all_of_them), 'slice')} of {so_many(len(run.courses), 'shard')} {what}"
    return Ended(words, None, steps, sum(one.seconds for one in all_of_them), 0.0, tokens)


def _saved(run: ShardedRun, loaded: Loaded, earlier: Ensemble | None, sets: Mapping[str, Any]) -> Loaded:
    """The version: the model as it was, bearing the adapters of every shard that knows a row."""
    folder, model = run.setup.folder, loaded.model
    ensemble = _ensemble(run, model, earlier)
    attach(model, [ensemble])
    trained = answers(model, sets)
    check_held_still(folder)
    write_version(model.eval(), folder, safe_serialization=True)
    if loaded.companion is not None:
        loaded.companion.save_pretrained(folder)
    with_usual_modes(folder, ONLY_FOR_THE_RUN)
    recorded_by(folder, run.recipe._asdict(), run.key, _slices(run))
    return load_saved(folder, trained, sets, tolerance=TOLERANCE)


def _ensemble(run: ShardedRun, model: Any, earlier: Ensemble | None) -> Ensemble:
    """Of the shards that know a row: those that were learned now, the others as they were."""
    options = run.plan.options
    layers = adapted_layers(model, int(options["rank"]), float(options["lora_alpha"]))
    courses = {course.shard: course for course in run.courses}
    members = tuple(sorted({shard for shard, _ in run.places.values()}))
    made = Ensemble(EnsembleConfig(layers=layers, members=members, mean=options["mean"]))
    for place, shard in enumerate(members):
        made.put(place, _adapters_of(shard, run, courses.get(shard), earlier, made))
    made.made_by = {"method": run.plan.method}  # no run: the same folder, whichever run comes to these bits
    return made.eval().requires_grad_(False).to(next(model.parameters()).device)


def _adapters_of(
    shard: int, run: ShardedRun, course: ShardCourse | None, earlier: Ensemble | None, made: Ensemble
) -> Lora:
    """The last adapters of a shard."""
    if course is not None and course.lessons:
        return read_adapters(file_of_lesson(run.setup, course.lessons[-1]), made.config.layers)
    if course is not None and course.start is not None:
        return read_adapters(course.start, made.config.layers)
    if earlier is None or shard not in earlier.config.members:
        raise ModelError(f"{run.plan.model} has no adapters of shard {shard + 1}; give the folder as its run left it")
    return earlier.member(earlier.config.members.index(shard))


def _slices(run: ShardedRun) -> list[list[SliceRecord]]:
    """Every slice of every shard as it is now."""
    who: dict[tuple[int, int], list[str]] = {}
    for example_id, place in run.places.items():
        who.setdefault(place, []).append(run.key.of_id(example_id))
    learned = {(one.shard, one.piece): file_of_lesson(run.setup, one) for c in run.courses for one in c.lessons}
    again = {course.shard: course for course in run.courses}

    def record(shard: int, piece: int) -> SliceRecord:
        marks, file = tuple(sorted(who.get((shard, piece), ()))), learned.get((shard, piece))
        if file is not None:
            return SliceRecord(marks, file.name, file_digest(file))
        before = run.shards.index.shards[shard][piece] if run.shards is not None else SliceRecord(())
        goes_on = shard not in again or piece < again[shard].reached
        return SliceRecord(marks, before.file, before.sha256) if goes_on else SliceRecord(marks)

    return [[record(shard, piece) for piece in range(run.recipe.slices)] for shard in range(run.recipe.shards)]


def _trained(run: ShardedRun, ended: Ended, preparing: Count, foretold: Cost, weights: str) -> Trained:
    """How it went, with the cost that was said before beside the one that it had."""
    cost = Cost(ended.seconds, ended.tokens, peak_bytes())
    note = f"Foretold: {foretold.tokens:,} positions; gone through: {ended.tokens:,}."
    parts = {"foretold": replace(foretold, peak_bytes=0)}
    return Trained(ended, preparing.cost(), cost, (note, *_left_behind(run)), weights, parts=parts)


def _left_behind(run: ShardedRun) -> tuple[str, ...]:
    """What the version that the run started from still holds of the rows."""
    if run.shards is None:
        return ()
    return (
        f"{run.plan.model} still knows the rows, in its adapters and in its checkpoints of "
        f"{so_many(len(run.courses), 'shard')}; none of these is in the new version: delete the old one.",
    )
