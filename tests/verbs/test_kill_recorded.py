"""Runs that record their steps, and die: the same weights, and the same log, as a run that nothing disturbed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.verbs.conftest import clinic as plain_clinic
from tests.verbs.test_kill import DIED, DONE, MEASURING, TRAINING, run_with_deaths, what_counts
from tests.verbs.test_recorded_deltas import log_of

import palimpsest as pal
from palimpsest.companions.delta_log import DELTA_INDEX

__all__ = ["plain_clinic"]

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
RECORD = {"record": ["deltas"], "measuring": MEASURING}


def learn_more(clinic: Path, output: Path) -> None:
    """On top of a log that is there."""
    plan = {**RECORD, "training": {**TRAINING, "max_steps": 3}}
    pal.learn(clinic / "logged", clinic / "general.jsonl", output=output, plan=plan, answers=False)


def guided(clinic: Path, output: Path) -> None:
    """Rounds that are taken back among those that are not."""
    plan = {**RECORD, "control": {"epochs": 2}}
    pal.learn(clinic / "logged", clinic / "general.jsonl", output=output, plan=plan, answers=False)


def unlearn(clinic: Path, output: Path) -> None:
    """A log of which a part must go."""
    plan = {**RECORD, "training": TRAINING}
    sets = {"retain": clinic / "retain.jsonl", "plan": plan, "answers": False, "method": "grad_diff"}
    pal.unlearn(clinic / "logged", clinic / "forget.jsonl", output=output, **sets)


def all_that_counts(folder: Path) -> dict[str, Any]:
    index = (folder / "companion" / "deltas" / DELTA_INDEX).read_text()
    return {**what_counts(folder), "log": log_of(folder).digest(), "index": index}


@pytest.fixture(scope="module")
def clinic(plain_clinic, tmp_path_factory) -> Path:
    """The clinic with ``logged/``, a model whose steps were recorded."""
    folder = tmp_path_factory.mktemp("logged") / "clinic"
    shutil.copytree(plain_clinic, folder)
    plan = {**RECORD, "training": {**TRAINING, "batch_size": 2, "max_steps": 8}}
    pal.learn(folder / "model", folder / "learn.jsonl", output=folder / "logged", plan=plan, answers=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("verb", [learn_more, unlearn])
def test_a_death_at_every_kind_of_moment(clinic, tmp_path, verb):
    verb(clinic, tmp_path / "whole" / "out")  # in this process: those forked from it find all that it imported
    seen: list[str] = []
    output = tmp_path / "out"
    while (code := run_with_deaths(verb, clinic, output, lambda name, _count: name not in seen)) == DIED:
        seen.append((tmp_path / "died-at").read_text())
        assert not output.exists() or (output / "result.json").is_file()
    assert code == DONE
    assert all_that_counts(output) == all_that_counts(tmp_path / "whole" / "out")
    kinds = " ".join(seen)
    for place in ("delta_record", "/recording/deltas/live.json", "/companion/deltas/index.json"):
        assert place in kinds


@pytest.mark.slow
def test_a_guided_run_that_dies_now_and_then(clinic, tmp_path):
    moments = tmp_path / "moments"

    def count(_name: str, number: int) -> bool:
        moments.write_text(str(number))
        return False

    assert run_with_deaths(guided, clinic, tmp_path / "counted" / "out", count) == DONE
    wanted = all_that_counts(tmp_path / "counted" / "out")
    draw, output = random.Random(1), tmp_path / "again" / "out"
    for _ in range(4):
        run_with_deaths(guided, clinic, output, _at(draw.randrange(1, int(moments.read_text()) // 3)))
    assert run_with_deaths(guided, clinic, output, lambda _name, _count: False) == DONE
    assert all_that_counts(output) == wanted


def _at(chosen: int) -> Callable[[str, int], bool]:
    return lambda _name, number: number == chosen
