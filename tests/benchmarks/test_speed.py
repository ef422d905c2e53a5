"""The arithmetic of ``benchmarks/speed.py``: exponents, shortest steps, what holds."""

from __future__ import annotations

import math
import sys

import pytest

import speed
import speed_training


@pytest.mark.parametrize(("power", "found"), [(0, 0.0), (1, 1.0), (2, 2.0)])
def test_the_exponent_is_that_of_the_last_tenfold(power, found):
    counts = [10, 100, 1000]
    seconds = [99.0, *(count**power / 7 for count in counts[1:])]
    assert speed.exponent(counts, seconds) == pytest.approx(found)


def test_steps_that_warm_up_do_not_count():
    stamps = [0.0, 0.1, 5.0, 8.0, 10.5, 14.0]
    assert speed_training.WARMING == 2
    assert speed_training.shortest_step(stamps) == pytest.approx(2.5)


def test_the_fastest_of_several_goes_counts(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 25.0])
    monkeypatch.setattr(speed.time, "process_time", lambda: next(clock))
    assert speed.shortest(lambda: None, times=3) == 1.0


@pytest.mark.parametrize(("value", "holds"), [(1.0, True), (1.01, False), (math.nan, False)])
def test_a_claim_holds_within_its_bound_alone(value, holds):
    assert speed_training.Claim("x", value, 1.0).holds is holds


PRETENDED = "import sys; sys.modules['torch'] = sys"


@pytest.mark.parametrize(("code", "found"), [("import json", []), (PRETENDED, ["torch"])])
def test_what_a_program_brings_is_seen(code, found):
    assert speed.brought(code) == found


def test_a_claim_that_does_not_hold_is_exit_code_1(monkeypatch, capsys):
    for value, code in ((0.5, 0), (2.0, 1)):
        monkeypatch.setattr(speed, "start", lambda value=value: iter([speed_training.Claim("seconds", value, 1.0)]))
        monkeypatch.setattr(sys, "argv", ["speed.py", "--parts", "start"])
        assert speed.main() == code
        assert capsys.readouterr().out.startswith("holds" if code == 0 else "FAILS")


def test_written_rows_are_read_and_encoded(tmp_path):
    from palimpsest.data.encode.text import encode
    from palimpsest.data.read.examples import read_examples

    speed_training.write_rows(tmp_path / "some.jsonl", 5, seed=0, lengths=(3, 4))
    rows = encode(
        read_examples(tmp_path / "some.jsonl"),
        speed_training.word_tokenizer(speed_training.KNOWING[-1]),
        max_length=None,
    )
    assert [(len(rows[i].tokens), sum(rows[i].scored)) for i in rows.ids] == [(8, 5)] * 5  # with a closing eos


def test_the_first_step_counts_like_the_others(monkeypatch):
    clock = iter([0.0, 1.0, 4.0, 6.0, 8.0, 30.0])
    monkeypatch.setattr(speed_training.time, "process_time", lambda: next(clock))
    told = speed_training.Clock()
    for stage in ("measuring before: forget", "training", "training", "training", "measuring after: forget"):
        told(stage, 1, 2)
    assert told.trained(3) == 6.0
