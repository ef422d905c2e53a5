"""Gates in one line say what the rows of a plan say."""

from __future__ import annotations

import pytest

from palimpsest.audit.gate_text import EXAMPLE, FORMS, gate_fields
from palimpsest.audit.gates import Gate, default_gates, parse_gates
from palimpsest.errors import PlanError


def gates_from_text(lines):
    return parse_gates([gate_fields(line) for line in lines])


@pytest.mark.parametrize(
    ("line", "gate"),
    [
        ("learn es >= 0.5", Gate(set="learn", metric="es", at_least=0.5)),
        ("forget accuracy <= .1", Gate(set="forget", metric="accuracy", at_most=0.1)),
        ("forget es <= oracle + 0.10", Gate(set="forget", metric="es", at_most=0.1, relative_to="oracle")),
        ("forget ES<=oracle+0.10", Gate(set="forget", metric="es", at_most=0.1, relative_to="oracle")),
        ("forget ma >= level - 0.1", Gate(set="forget", metric="ma", at_least=-0.1, relative_to="level")),
        ("forget ma>=level-0.1", Gate(set="forget", metric="ma", at_least=-0.1, relative_to="level")),
        ("forget el_10 <= holdout", Gate(set="forget", metric="el_10", at_most=0.0, relative_to="holdout")),
        ("forget ma within 0.1 of oracle", Gate(set="forget", metric="ma", within=0.1, relative_to="oracle")),
        ("retain es >= 0.8*before", Gate(set="retain", metric="es", at_least=0.8, relative_to="before", mode="ratio")),
        ("forget prob <= 1e-3", Gate(set="forget", metric="prob", at_most=0.001)),
    ],
)
def test_a_line_is_a_gate(line, gate):
    assert gates_from_text([line]) == (gate,)


def test_the_defaults_can_be_written_so():
    lines = ["forget es within 0.1 of oracle", "forget ma within 0.1 of oracle"]
    lines += ["retain es >= 0.9 * before", "general ppl <= 1.1 * before"]
    columns, sets = ("before", "after", "oracle"), ("forget", "retain", "general")
    assert gates_from_text(lines) == default_gates("unlearn", columns, sets)


NO_GATES = ["", "forget es", "es <= 0.1", "forget es < 0.1", "forget es <= orakel + 0.1"]
NO_GATES += ["forget es <= 0.1 + oracle", "forget es within 0.1", "forget es <= 0.1.2"]


@pytest.mark.parametrize("line", NO_GATES)
def test_what_is_no_gate_is_refused_with_examples(line):
    with pytest.raises(PlanError, match=r"^gate '.*' cannot be read; accepted: 'forget es <= oracle \+ 0.10', "):
        gates_from_text([line])


def test_what_the_refusal_shows_can_be_read():
    shown = FORMS.replace(" or ", ", ").split(", ")
    assert len([gate_fields(form.strip("'")) for form in shown]) == 4
    assert EXAMPLE in FORMS


def test_a_gate_that_compares_wrongly_is_refused_like_a_row():
    with pytest.raises(PlanError, match="accepted: within > 0"):
        gates_from_text(["forget es within 0 of oracle"])
