"""Which values of a result are bits, and when old and new ones agree."""

from __future__ import annotations

import json

import pytest

from bits import LEFT_OUT, compared, flat

OLD = {"a/weights": "00ff", "a/score": "0.1", "b/score": "1.0"}


def test_every_leaf_has_a_path_and_all_its_bits() -> None:
    value = {"scores": {"ma": 0.1 + 0.2, "n": 3, "by_id": {"p1": None}}, "curve": [{"active": True}], "said": "so"}
    assert dict(flat(json.loads(json.dumps(value)), "run")) == {
        "run/scores/ma": "0.30000000000000004",
        "run/scores/n": "3",
        "run/scores/by_id/p1": "null",
        "run/curve/0/active": "true",
        "run/said": "so",
    }


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_changes_by_itself_is_left_out_at_every_depth(name: str) -> None:
    assert dict(flat({name: 1, "rows": [{name: {"kept": 1}, "kept": 2}]}, "run")) == {"run/rows/0/kept": "2"}


def test_equal_bits_are_counted_and_pass() -> None:
    assert compared(OLD, dict(OLD)) == (["3 equal, 0 differ, 0 missing, 0 new"], 0)


def test_the_last_bit_of_a_number_differs() -> None:
    lines, code = compared({"a": repr(0.3)}, {"a": repr(0.1 + 0.2)})
    assert lines == ["differs  a  0.3 -> 0.30000000000000004", "0 equal, 1 differ, 0 missing, 0 new"]
    assert code == 1


def test_what_is_gone_fails() -> None:
    lines, code = compared(OLD, {"a/weights": "00ff", "a/score": "0.1"})
    assert (lines, code) == (["missing  b/score", "2 equal, 0 differ, 1 missing, 0 new"], 1)


def test_what_came_to_it_is_said_and_passes() -> None:
    lines, code = compared(OLD, {**OLD, "c/score": "2"})
    assert (lines, code) == (["new      c/score", "3 equal, 0 differ, 0 missing, 1 new"], 0)
