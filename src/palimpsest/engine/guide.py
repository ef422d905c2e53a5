"""What a controlled run needs beside its job: the level of never seen, what is read, what repair draws from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palimpsest import methods
from palimpsest.contract import ExampleSet
from palimpsest.control.drive import Guided
from palimpsest.control.goal import Aims, Goal, Lesson
from palimpsest.control.hands import Tools
from palimpsest.control.learning import Taught
from palimpsest.control.level import Level, from_classes, from_oracle, from_shadow
from palimpsest.control.probes import Probes, Watched
from palimpsest.control.readings import Reading, RowReading, read
from palimpsest.control.shadow import Shadow
from palimpsest.data.encode.batch import TextSet
from palimpsest.derived.own_words import COUNT, own_words, share_of_rows
from palimpsest.engine.head_growth import grown
from palimpsest.engine.inputs import subset
from palimpsest.engine.plan import Plan
from palimpsest.engine.telling import class_by_id, told_of
from palimpsest.loop.job import Repair
from palimpsest.models.load import Loaded, device, load
from palimpsest.models.modes import asked
from palimpsest.models.reference import build_reference

MOST_REPAIR_ROWS = 512  # of each set; what they keep, the rest keeps
_BY_HEART = 0.05  # nats per scored position: what counts as known where there is no retain set to compare with
LEARNED = 0.05  # nats above it that count as learned
HELD_BACK = 32  # replay rows or own words that are read and not repaired on
FEWEST_OWN = 0.5  # share of own words left by the cleaning: with less, the model says little but what must go
MOST_OF_ROWS = 0.3  # share of runs of three tokens in own words that rows have, too: with more, they are blends of them

NO_LANGUAGE = (
    "What the model says by itself are blends of the given rows, so nothing but the retain set was watched; where it "
    "knows more than them, give texts to rehearse, --replay FILE."
)


@dataclasses.dataclass(frozen=True)
class Kept:
    """What must stay, in two parts that share no row.

    Attributes:
        repaired: what repair draws from: "retain", "replay".
        general: what the floor of general text is read on; None when there is nothing.
        silent: classes that do not stay at all.
        note: on what is not watched; "" for none.
    """

    repaired: Mapping[str, ExampleSet]
    general: ExampleSet | None
    silent: tuple[int, ...] = ()
    note: str = ""


def kept(plan: Plan, loaded: Loaded, sets: Mapping[str, Any], folder: Path) -> Kept:
    """Choose them from what was given; texts without a replay file are rehearsed in the model's own words.

    A model that knows little but its few rows says blends of them: a floor on those would forbid to forget. Then the
    retain set alone is kept.

    Args:
        plan: resolved.
        loaded: the model before, on its device.
        sets: encoded.
        folder: where own words are kept.
    """
    seed = plan.training.seed
    if not _watches(plan, sets) or from_base(plan):
        return Kept({}, None)
    repaired = {}
    if "retain" in sets:
        repaired["retain"] = subset(sets["retain"].plain(), MOST_REPAIR_ROWS, seed, "retain")
    rehearsed = sets["replay"] if "replay" in sets else _own_words(plan, loaded, sets.get("forget"), repaired, folder)
    general = sets.get("general")
    if rehearsed is not None and len(rehearsed):
        rest = subset(rehearsed.plain(), MOST_REPAIR_ROWS + HELD_BACK, seed, "replay")
        if general is None:
            general, rest = _held_back(rest)
        repaired["replay"] = rest
    note = _note_on(plan, loaded, general, rehearsed)
    return Kept(repaired, general, _gone(sets) if loaded.family.has_classes else (), note)


def _note_on(plan: Plan, loaded: Loaded, general: ExampleSet | None, rehearsed: ExampleSet | None) -> str:
    return NO_LANGUAGE if general is None and rehearsed is None and _speaks(plan, loaded) else ""


def _own_words(
    plan: Plan, loaded: Loaded, forget: Any, kept_rows: Mapping[str, ExampleSet], folder: Path
) -> ExampleSet | None:
    """What a text model says of itself; None for other runs, or if that is no language while something is retained."""
    if not _speaks(plan, loaded):
        return None
    found = own_words(loaded, forget, seed=plan.training.seed, file=folder / "own_words.json")
    if not kept_rows:
        return found
    rows = (tokens for examples in (forget, *kept_rows.values()) for tokens in _tokens_of(examples))
    blended = share_of_rows(_tokens_of(found), rows) > MOST_OF_ROWS
    return None if blended or len(found) < FEWEST_OWN * COUNT else found


def _speaks(plan: Plan, loaded: Loaded) -> bool:
    return loaded.family.reads_prefixes and plan.control.kind == "auto"


def _tokens_of(texts: Any) -> Iterator[Sequence[int]]:
    return (texts[i].tokens for i in (() if texts is None else texts.ids))


def _held_back(rehearsed: ExampleSet) -> tuple[ExampleSet | None, ExampleSet]:
    """What is read of the rehearsed rows, and what is left to repair on; of a single row nothing is read."""
    if len(rehearsed) < 2:
        return None, rehearsed
    held = rehearsed.ids[: min(HELD_BACK, len(rehearsed) // 2)]
    return rehearsed.subset(held), rehearsed.subset(rehearsed.ids[len(held) :])


def _watches(plan: Plan, sets: Mapping[str, Any]) -> bool:
    """Is there anything that a run must not break? To learn, only what was given to watch; to forget, always."""
    return "forget" in sets or "general" in sets or ("retain" in sets and not from_base(plan))


def from_base(plan: Plan) -> bool:
    """Does the run start before anything was learned, as retraining does?"""
    return methods.load(plan.method).starts_from == "base"


def repair_of(plan: Plan, model: Any, found: Kept, folder: Path) -> Repair:
    """Repair with the model as it is now for its reference."""
    sets = found.repaired
    rows = plan.training.micro_batch_size or plan.training.batch_size
    reference = build_reference(model, sets, folder / "repair", batch_size=rows) if sets else None
    return Repair(sets, reference, rows=plan.repair.rows, silent=found.silent, steps=plan.repair.steps)


def probes_of(plan: Plan, loaded: Loaded, sets: Mapping[str, Any], found: Kept) -> Probes:
    """Read what the floors stand on, under the model before."""
    control, seed = plan.control, plan.training.seed
    watched = {}
    if "retain" in sets and not from_base(plan):
        watched["retain"] = Watched.of(loaded, sets["retain"], control.read_rows, seed, "retain")
    if found.general is not None:
        watched["general"] = Watched.of(loaded, found.general, control.read_rows // 2, seed, "general")
    read_for = {name: sets[name].plain() for name in ("forget", "learn", "retain", "holdout") if name in sets}
    spoken = "general" in watched and not {"general", "replay"} & set(sets)
    return Probes(read_for, watched, control, seed, loaded.eos_ids, spoken)


def guided_by(plan: Plan, loaded: Loaded, sets: Mapping[str, Any], tools: Tools) -> Guided | Taught:
    """What a run that forgets, or one that only learns, is guided by; read under the model before.

    Args:
        plan: resolved; its control is "auto".
        loaded: the model before, on its device.
        sets: encoded.
        tools: with the probes.
    """
    if "forget" not in sets or from_base(plan):
        return taught_of(plan, loaded, tools)
    before = read(loaded.model, sets["forget"].plain(), eos_ids=loaded.eos_ids)
    goal = Goal(level_of(plan, loaded, sets), before, plan.control.tolerance)
    return Guided(tools, Aims(goal, lesson_of(loaded, sets, tools.probes)))


def taught_of(plan: Plan, loaded: Loaded, tools: Tools) -> Taught:
    """What a learning run learns, and by which loss it ends."""
    probes, name = tools.probes, "retain" if from_base(plan) else "learn"
    before = read(loaded.model, probes.sets[name], probes.ids(name, 0), eos_ids=loaded.eos_ids)
    return Taught(tools, name, before, validates="holdout" in probes.sets)


def lesson_of(loaded: Loaded, sets: Mapping[str, Any], probes: Probes) -> Lesson | None:
    """When the learn set of an update is learned: as well as the model knows what stays, or by heart."""
    if "learn" not in sets:
        return None
    before = read(loaded.model, probes.sets["learn"], probes.ids("learn", 0)).nats
    known = probes.watched["retain"].before.nats if "retain" in probes.watched else _BY_HEART
    return Lesson(before, known + LEARNED)


def level_of(plan: Plan, loaded: Loaded, sets: Mapping[str, Any]) -> Level:
    """The level of never seen, from the best source there is; ``check_needs`` saw to it that there is one."""
    if plan.oracle is not None and plan.control.level != "shadow":
        oracle = grown(load(plan.oracle, revision=plan.revision), plan)
        reading = read(oracle.model.to(device()), sets["forget"], eos_ids=loaded.eos_ids)
        return from_oracle(reading, things=loaded.family.things if loaded.family.has_classes else "")
    if loaded.family.has_classes:
        return _of_classes(loaded, sets)
    return _of_texts(plan, loaded, sets)


def _of_texts(plan: Plan, loaded: Loaded, sets: Mapping[str, Any]) -> Level:
    base = _base(plan, loaded)
    vocab = loaded.num_outputs
    staying = _tokens(sets, "retain", "replay")
    shadow = Shadow(staying, vocab)
    forget: TextSet = sets["forget"]
    holdout = general = None
    eos_ids, reads = loaded.eos_ids, loaded.family.reads_prefixes

    def shadowed(shadow: Shadow, examples: TextSet) -> Reading:
        # An encoder's prompt has no distribution over its next token, which the shadow of a pair would need.
        expected = partial(_probabilities, base, examples) if base is not None and reads else None
        return shadow.read(examples, expected, eos_ids=eos_ids)

    if "holdout" in sets:
        probe = subset(sets["holdout"], plan.control.read_rows, plan.training.seed, "holdout")
        everything = Shadow([*staying, *_tokens(sets, "forget")], vocab)
        holdout = (read(loaded.model, probe, eos_ids=eos_ids), shadowed(everything, probe))
    if "general" in sets and "replay" in sets:
        probe = subset(sets["general"], plan.control.read_rows // 2, plan.training.seed, "general")
        general = (read(loaded.model, probe, eos_ids=eos_ids), shadowed(shadow, probe))
    return from_shadow(shadowed(shadow, forget), holdout=holdout, general=general, empty=shadow.is_empty)


def _probabilities(base: Any, examples: TextSet, example_id: str) -> np.ndarray:
    """What the base model expects after each position of one example, (T, V)."""
    batch = examples.batch([example_id]).to(next(base.parameters()).device)
    with asked(base):
        logits_TV = base(**batch.inputs(), use_cache=False).logits[0]
    found: np.ndarray = torch.softmax(logits_TV.float(), -1).cpu().numpy().astype(np.float64)
    return found


def _base(plan: Plan, loaded: Loaded) -> Any:
    """The base model, when one is given that knows the same tokens."""
    if plan.base is None:
        return None
    base = grown(load(plan.base, revision=plan.revision), plan)
    return base.model.to(device()) if base.num_outputs == loaded.num_outputs else None


def _tokens(sets: Mapping[str, Any], *names: str) -> list[tuple[int, ...]]:
    return [sets[name][i].tokens for name in names if name in sets for i in sets[name].ids]


def _of_classes(loaded: Loaded, sets: Mapping[str, Any]) -> Level:
    labels, staying = class_by_id(sets["forget"]), _staying(sets)
    unseen: dict[int, dict[str, RowReading]] = {}
    if "holdout" in sets:
        reading = read(loaded.model, sets["holdout"])
        for example_id, label in class_by_id(sets["holdout"]).items():
            unseen.setdefault(label, {})[example_id] = reading.rows[example_id]
    return from_classes(labels, staying, unseen, loaded.family.things, told_of(sets))


def _staying(sets: Mapping[str, Any]) -> frozenset[int]:
    """Classes that something which stays has examples of."""
    names = [name for name in ("retain", "replay", "learn") if name in sets]
    return frozenset(label for name in names for label in sets[name].label_N.tolist())


def _gone(sets: Mapping[str, Any]) -> tuple[int, ...]:
    """Classes of the forget set that nothing which stays has examples of, where anything stays."""
    staying = _staying(sets)
    return tuple(sorted(set(sets["forget"].label_N.tolist()) - staying)) if staying and "forget" in sets else ()
