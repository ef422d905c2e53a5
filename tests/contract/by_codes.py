"""A toy that says what it knows through a codebook: for methods that work on one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from palimpsest import methods
from palimpsest.data.encode.batch import TextSet
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.parts import attach
from palimpsest.models.scope import Scope, apply_scope

OPTIONS = {"codes": 64, "chosen": 4}


def coded_by_heart(model: Any, known: TextSet, folder: Path) -> Any:
    """A copy of a model that knows some rows, after it learned them through a codebook, too.

    Args:
        model: knows the rows; left alone.
        known: the rows.
        folder: an empty one.
    """
    coded = copy.deepcopy(model)
    method = methods.load("code_learn")(methods.configure("code_learn", OPTIONS))
    made = method.parts(coded, {"learn": known}, 0)
    for part in made:
        part.is_new = True
    attach(coded, made)
    apply_scope(coded, Scope())
    method.prepare(coded, {"learn": known})
    training = Training(learning_rate=3e-3, num_train_epochs=60, batch_size=16)
    run(Job(method, coded, {"learn": known}, training, folder))
    for part in made:
        part.is_new = False
    return coded.eval()
