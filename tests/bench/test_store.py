"""Work is done once: while one process does it, another waits; when it dies, the lock is free."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from palimpsest.bench.perform.cache import locked, remembered
from palimpsest.bench.results import SetScore

SCORE = SetScore(n=1, accuracy=0.5, nll=1.0)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_a_value_is_computed_once(tmp_path):
    calls = []
    for _ in range(2):
        assert remembered(tmp_path / "v.json", SetScore, lambda: calls.append(1) or SCORE) == SCORE
    assert len(calls) == 1


def test_what_another_version_wrote_is_computed_again(tmp_path):
    (tmp_path / "v.json").write_text('{"n": 1}')
    assert remembered(tmp_path / "v.json", SetScore, lambda: SCORE) == SCORE
    assert remembered(tmp_path / "v.json", SetScore, pytest.fail) == SCORE


def test_what_was_changed_is_computed_again(tmp_path):
    remembered(tmp_path / "v.json", SetScore, lambda: SCORE)
    text = (tmp_path / "v.json").read_text()
    (tmp_path / "v.json").write_text(text.replace(f'"n": {SCORE.n}', f'"n": {SCORE.n + 1}'))
    assert (tmp_path / "v.json").read_text() != text
    assert remembered(tmp_path / "v.json", SetScore, lambda: SCORE) == SCORE


def hold(path: Path, seconds: float, then: str) -> None:
    with locked(path):
        (path.parent / "held").touch()
        time.sleep(seconds)
        if then == "die":
            os._exit(9)
        (path.parent / "left").touch()


@pytest.mark.parametrize("then", ["leave", "die"])
def test_a_second_process_waits_for_the_first(tmp_path, then):
    other = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "work", 0.3, then))
    other.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    started = time.monotonic()
    with locked(tmp_path / "work"):
        waited = time.monotonic() - started
        assert (tmp_path / "left").exists() is (then == "leave")
    other.join()
    assert waited > 0.1
