"""Controls: what an objective is shown of a set, whatever the objective. They act in ``data/encode/controlled.py``.

Source: Wang et al., "Towards Effective Evaluations and Comparisons for LLM Unlearning Methods", ICLR 2025 (its "bag of
tricks": temperature, likelihood capping, loss selection), and "Unlearning with Control", arXiv:2406.09179, whose risk
capping the cap is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import Field

from palimpsest.errors import PlanError
from palimpsest.method_card import Config, configured


class Controls(Config):
    """Of one set of a run; the defaults change nothing."""

    temperature: float = Field(default=1.0, gt=0)
    """T: the logits are divided by it before the objective reads them; above 1 the sure answers weigh less. The
    reference's are, too."""
    lowest: float = Field(default=1.0, gt=0, le=1)
    """Share of each example's scored positions that count: those with the lowest loss, rounded up."""
    cap: float | None = Field(default=None, gt=0)
    """Nats, summed over the example: one whose loss is at or above it moves nothing any more; None = no cap."""


def checked_controls(given: object, drawn: Mapping[str, bool]) -> dict[str, Controls]:
    """The controls of a plan; those that change nothing are left out.

    Args:
        given: set -> options, as a user gave them.
        drawn: set that the run draws from -> does the method look at its rows, not only at their ids?

    Raises:
        PlanError: no mapping, a set that the objective does not see, an unknown option or a value out of range.
    """
    if not isinstance(given, Mapping):
        raise PlanError(f"controls is {given!r}; accepted: a mapping of sets, e.g. {{forget: {{temperature: 2}}}}")
    found = {str(name): _one(str(name), options, drawn) for name, options in given.items()}
    return {name: one for name, one in found.items() if one != Controls()}


def _one(name: str, options: Any, drawn: Mapping[str, bool]) -> Controls:
    if not drawn.get(name, False):
        seen = [one for one, sees in drawn.items() if sees]
        why = "looks at no row of that set" if name in drawn else "draws from no set of that name"
        raise PlanError(f"controls.{name}: this run {why}; accepted: {', '.join(seen) or 'no controls'}")
    values = options.model_dump(exclude_unset=True) if isinstance(options, Controls) else options
    if not isinstance(values, Mapping):
        raise PlanError(
            f"controls.{name} is {options!r}; accepted: a mapping of {', '.join(Controls.model_fields)}, "
            f"e.g. --set controls.{name}.temperature=2"
        )
    return cast("Controls", configured(f"controls.{name}", Controls, values))
