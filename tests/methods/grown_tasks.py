"""A task learned by a method that may grow a model, as a run would do it, without its files."""

from __future__ import annotations

import itertools

import torch
from tests.models.parts.grown_models import images, texts

from palimpsest import methods
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.parts import attach
from palimpsest.models.reference import build_reference
from palimpsest.models.scope import Scope, apply_scope

FIRST = {"learn": images("a", [0, 1] * 3, 1)}
SECOND = {"learn": images("b", [2, 3] * 3, 2), "replay": images("a", [0, 1], 1)}
FIRST_TEXTS = {"learn": texts("a", [0, 1] * 3)}
SECOND_TEXTS = {"learn": texts("b", [2, 3] * 3), "replay": texts("a", [0, 1])}


class Killed(Exception):
    """The process dies here."""


def started(name, model, sets, folder, **options):
    """Method and model before the first step."""
    kind, config = methods.load(name), methods.configure(name, options)
    torch.manual_seed(0)
    made = kind(config).parts(model, sets, 0)
    for part in made:
        part.is_new = True
    apply_scope(attach(model, made), Scope())
    wanted = {s: sets[s] for s in kind.asks_reference_on(config) if s in sets}
    method = kind(config, build_reference(model, wanted, folder / "reference") if wanted else None)
    return method, method.prepare(model, sets)


def taught(name, model, sets, folder, *, steps=3, rate=1e-2, dies_after=None, **options):
    """The model after a task; its parts are of an earlier run then."""
    folder.mkdir(exist_ok=True)
    method, model = started(name, model, sets, folder, **options)

    steps_taken = itertools.count(1)

    def told(step, planned, values):
        if next(steps_taken) == dies_after:
            raise Killed

    brief = {"learning_rate": rate, "batch_size": 4, "side_batch_size": 2, "checkpoint_steps": 2, "num_train_epochs": 3}
    training = Training(**brief, max_steps=steps)
    run(Job(method, model, sets, training, folder, progress=told))
    model = method.finish(model).eval()
    for part in getattr(model, "palimpsest_parts", ()):
        part.is_new = False
    return model.requires_grad_(False)
