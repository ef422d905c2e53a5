"""A toy that learned by heart in steps that were recorded: for methods that read what was kept of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palimpsest import methods
from palimpsest.companions.delta_log import DeltaLog
from palimpsest.companions.marks import own_key
from palimpsest.data.encode.batch import TextSet
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.rules.deltas import Deltas, DeltasConfig
from palimpsest.rules.rule import Setting
from palimpsest.rules.rule_stack import RuleStack

ROUNDS = 16
KEEP = 0.1
TAUGHT = {"learning_rate": 1e-2, "num_train_epochs": 3, "batch_size": 16}


def recorded_by_heart(base: Any, sets: Sequence[TextSet], folder: Path) -> tuple[Any, DeltaLog]:
    """A model that learned some sets in turn, none in the steps of another, and the log of it.

    Args:
        base: before it learned anything; left alone.
        sets: each in batches of its own; the last word is the first one's.
        folder: an empty one.
    """
    model, key = copy.deepcopy(base), own_key()
    assert key is not None
    log = DeltaLog.open(folder / "deltas", key)
    for number, part in enumerate([*sets] * ROUNDS + [sets[0]] * 2):
        place = folder / str(number)
        place.mkdir()
        method = methods.load("finetune")(methods.configure("finetune", {}))
        method.prepare(model, {"learn": part})
        rules = RuleStack((), [Deltas(DeltasConfig(keep=KEEP))], Setting(place, 0))
        rules.prepare(model, {}, {})
        run(Job(method, model, {"learn": part}, Training(**TAUGHT), place, rules=rules))
        log.take_up(place)
    return model, log
