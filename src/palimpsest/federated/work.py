"""Kinds of local work by their words: what a client does when it is asked."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from accelerate.utils import set_seed

from palimpsest.companions.round_record import Reply
from palimpsest.data.draws import random_words
from palimpsest.engine.plan import Plan
from palimpsest.engine.prepare import set_up
from palimpsest.errors import PlanError, unknown
from palimpsest.federated.procedure import Errand
from palimpsest.federated.workbench import Workbench, counts_kept
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.models.sealed import is_sound

LocalWork = Callable[[Workbench, str, Errand, int], Reply]
"""The work of one client: on a bench, its name, what is asked, the number of the round."""

WORDS: Mapping[str, str] = {
    "learn": "palimpsest.federated.work:learn_locally",
    "ascend": "palimpsest.federated.special_work:ascend_locally",
    "distil": "palimpsest.federated.special_work:distil_locally",
    "statistics": "palimpsest.federated.special_work:count_locally",
}
"""Word -> module:function that does it, imported when it is asked for."""


def local_work_of(word: str) -> LocalWork:
    """What does a kind of local work.

    Raises:
        PlanError: there is no such kind; names the closest.
    """
    if word not in WORDS:
        raise PlanError(unknown("local work", word, WORDS))
    module, _, name = WORDS[word].partition(":")
    work: LocalWork = getattr(import_module(module), name)
    return work


def seed_of(seed: int, client: str, number: int) -> int:
    """Seed of a client's work in a round: by these three alone, so that nobody's answer depends on who else takes part.

    >>> seed_of(0, "a", 1) == seed_of(0, "a", 1), seed_of(0, "a", 1) == seed_of(0, "b", 1)
    (True, False)
    """
    return random_words(seed, f"federated/{client}/{number}", 0, 1)[0] >> 33


def plan_of(bench: Workbench, client: str, errand: Errand, number: int) -> Plan:
    """The plan of one piece of work: that of the bench, with its own seed, length and settings."""
    own = {"seed": seed_of(bench.plan.training.seed, client, number), "num_train_epochs": errand.epochs}
    training = bench.plan.training.model_copy(update={**own, **errand.settings})
    return bench.plan.model_copy(update={"training": training})


def learn_locally(bench: Workbench, client: str, errand: Errand, number: int) -> Reply:
    """Take the steps of the plan's method on a client's own rows; a process that died goes on from its checkpoint.

    Args:
        bench: with the client's rows.
        client: its name.
        errand: weights, passes, and training options that differ, e.g. {"learning_rate": 1e-3}.
        number: of the round.
    """
    started = time.perf_counter()
    bench.lay(errand.weights)
    loss = bench.loss(client) if errand.loss else math.nan
    if errand.epochs > 0:
        plan = plan_of(bench, client, errand, number)
        set_seed(plan.training.seed)
        _take_steps(bench, plan, client, number)
    examples = len(bench.sets[client]["learn"])
    return Reply(client, bench.delta_from(errand.weights), examples, loss, time.perf_counter() - started)


def _take_steps(bench: Workbench, plan: Plan, client: str, number: int) -> None:
    """All steps of one piece of work, through the loop that every run goes through."""
    folder = bench.folder / f"round-{number:04d}-{list(bench.sets).index(client)}"
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoint.exists() and not is_sound(checkpoint):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").touch()
    sets: Mapping[str, Any] = bench.sets[client]
    method, prepared, stack = set_up(plan, bench.model, sets, sets, folder)
    with counts_kept(bench.model):
        run(Job(method, prepared, sets, plan.training, folder, rules=stack))
    bench.model.eval()
    shutil.rmtree(folder, ignore_errors=True)
