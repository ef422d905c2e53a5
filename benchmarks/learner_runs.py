"""Versions of a classifier that learn one task after another, in memory: what ``learners.py`` measures.

The same steps as a run of the library takes, without its measurements and its report: parts, scope, reference, rules,
loop, and the companions that one version hands on to the next.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from palimpsest import companions, methods
from palimpsest.companions.marks import own_key
from palimpsest.data.draws import shuffled
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.grown_head import grow
from palimpsest.models.loaded import Loaded
from palimpsest.models.parts import attach
from palimpsest.models.reference import build_reference
from palimpsest.models.scope import Scope, apply_scope, leave_scope, state_digests
from palimpsest.rules.rule import Setting
from palimpsest.rules.rule_stack import RuleStack


@dataclass(frozen=True)
class LearnedVersion:
    """A model after a run, and the folder of what is kept beside it."""

    loaded: Loaded
    folder: Path

    @property
    def bytes_beside(self) -> int:
        """Of its companions."""
        return sum(path.stat().st_size for path in (self.folder / "companion").rglob("*") if path.is_file())


def with_classes(loaded: Loaded, names: Sequence[str], *, fresh: bool) -> Loaded:
    """A copy whose head has these classes as well, or alone."""
    whole = Loaded(copy.deepcopy(loaded.model), loaded.tokenizer, loaded.source, loaded.pixels, loaded.preprocessor)
    return grow(whole, names, fresh=fresh)


def after_run(
    method: str,
    start: LearnedVersion,
    sets: Mapping[str, Any],
    training: Mapping[str, Any],
    folder: Path,
    scope: Scope | None = None,
    **options: Any,
) -> LearnedVersion:
    """What a run makes of a version; the version itself stays as it is.

    Args:
        method: registered.
        start: where it begins.
        sets: those that the method draws from are used.
        training: options beside the method's own defaults.
        folder: new, of the run.
        scope: None = the method's own: its parts where it moves these alone, else all weights.
        options: of the method.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kind, loaded = methods.load(method), start.loaded
    model, drawn = copy.deepcopy(loaded.model), {name: sets[name] for name in kind.draws_from(sets)}
    config = methods.configure(method, options)
    torch.manual_seed(int(training["seed"]))
    if kind.adds_parts:
        made = kind(config).parts(model, drawn, int(training["seed"]))
        for part in made:
            part.is_new = True
        attach(model, made)
    moves_parts = kind.adds_parts and not kind.moves_all and not kind.edits
    scope = Scope(kind="parts") if moves_parts else scope or Scope(kind="all")
    model = apply_scope(model, scope)
    wanted = {name: sets[name] for name in kind.asks_reference_on(config) if name in drawn}
    learner = kind(config, build_reference(model, wanted, folder / "reference") if wanted else None)
    learner.companions, learner.recording = dict(_beside(kind, start.folder)), folder / "recording"
    at_start, prepared = state_digests(model), learner.prepare(model, drawn)
    rules = RuleStack(learner.rules(), setting=Setting(folder, int(training["seed"])))
    rules.prepare(prepared, drawn, drawn)
    options_of_run = Training(**{**kind.defaults, **training})
    run(Job(learner, prepared, drawn, options_of_run, folder, rules=rules, at_start=at_start))
    model = leave_scope(learner.finish(prepared), scope).eval()
    _hand_over(kind, start.folder, folder)
    return LearnedVersion(Loaded(model, loaded.tokenizer, loaded.source, loaded.pixels, loaded.preprocessor), folder)


def _beside(kind: Any, folder: Path) -> list[tuple[str, Any]]:
    """Companions that a method reads, or goes on with."""
    key = own_key()
    there = set(companions.kinds_in(folder)) & {*kind.reads, *kind.keeps}
    return [(k, companions.load(k).open(companions.companion_place(k, folder), key)) for k in sorted(there) if key]


def _hand_over(kind: Any, start: Path, folder: Path) -> None:
    key = own_key()
    for name in sorted({*kind.reads, *kind.keeps}) if key else ():
        old, place = (companions.companion_place(name, one) for one in (start, folder))
        if old.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(old, place)
        companions.load(name).open(place, key).take_up(folder)


def memory_of(examples: Any, label_N: torch.Tensor, per_class: int, seed: int) -> list[str]:
    """Ids of so many rows of each class, by a draw."""
    found: list[str] = []
    for label in sorted(set(label_N.tolist())):
        own = [i for i, one in zip(examples.ids, label_N.tolist(), strict=True) if one == label]
        found += shuffled(own, seed, "memory", label)[:per_class]
    return found


def answers_of(version: LearnedVersion, examples: Any, rows: int = 250) -> torch.Tensor:
    """Logits of all rows."""
    ids, said = examples.ids, []
    with torch.no_grad():
        for first in range(0, len(ids), rows):
            said.append(examples.batch(ids[first : first + rows]).predict(version.loaded.model).logits_SV)
    return torch.cat(said)
