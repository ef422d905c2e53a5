"""A gate in one line, as a person would write it.

    forget es <= 0.10                    the score itself
    forget es <= oracle + 0.10           its difference from a reference
    retain es >= 0.90 * before           its ratio to one; of perplexity the geometric mean of the examples' ratios
    forget ma within 0.10 of level       both sides

References: before, oracle, level, holdout, as in ``gates.py``.
"""

from __future__ import annotations

import re
from typing import Any, get_args

from palimpsest.audit.gates import RelativeTo
from palimpsest.errors import PlanError

EXAMPLE = "forget es <= oracle + 0.10"
FORMS = f"{EXAMPLE!r}, 'retain es >= 0.90 * before', 'forget ma within 0.10 of level' or 'learn es >= 0.5'"

_NUMBER, _NAME = r"(?P<number>\d*\.?\d+(?:e-?\d+)?)", rf"(?P<whose>{'|'.join(get_args(RelativeTo))})"
_START = r"^(?P<set>[a-z]+) (?P<metric>\w+) "
_PATTERNS = (
    ("plain", re.compile(rf"{_START}(?P<side><=|>=) {_NUMBER}$")),
    ("difference", re.compile(rf"{_START}(?P<side><=|>=) {_NAME}(?: (?P<sign>[+-]) {_NUMBER})?$")),
    ("ratio", re.compile(rf"{_START}(?P<side><=|>=) {_NUMBER} \* {_NAME}$")),
    ("within", re.compile(rf"{_START}within {_NUMBER} of {_NAME}$")),
)


def gate_fields(line: str) -> dict[str, Any]:
    """Fields of one gate, as ``parse_gates`` takes them.

    Raises:
        PlanError: the line is no gate.

    >>> gate_fields("retain es >= 0.90 * before")
    {'set': 'retain', 'metric': 'es', 'relative_to': 'before', 'at_least': 0.9, 'mode': 'ratio'}
    """
    apart = re.sub(r"(<=|>=|\*)", r" \1 ", line.lower())
    spaced = " ".join(re.sub(rf"{_NAME} *([+-])", r"\1 \2 ", apart).split())
    for form, pattern in _PATTERNS:
        if (found := pattern.match(spaced)) is not None:
            return _fields(form, found.groupdict())
    raise PlanError(f"gate {line!r} cannot be read; accepted: {FORMS}")


def _fields(form: str, parts: dict[str, str | None]) -> dict[str, Any]:
    fields: dict[str, Any] = {"set": parts["set"], "metric": parts["metric"]}
    number = float(parts.get("number") or 0.0) * (-1 if parts.get("sign") == "-" else 1)
    if parts.get("whose"):
        fields["relative_to"] = parts["whose"]
    fields["within" if form == "within" else "at_most" if parts["side"] == "<=" else "at_least"] = number
    if form == "ratio":
        fields["mode"] = "ratio"
        if parts["metric"] == "ppl":
            fields["average"] = "geometric"
    return fields
