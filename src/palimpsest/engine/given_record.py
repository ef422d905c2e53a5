"""What a run is to record for later deletion: only when it is asked, because it is of persons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from palimpsest import companions, rules
from palimpsest.errors import PlanError, unknown
from palimpsest.method_card import MethodCard
from palimpsest.rules import WHICH

_Rows = Sequence[Mapping[str, Any]]
_OF_WEIGHTS = ("deltas", "past_gradients")


def chosen_record(given: object, rows: _Rows, method: MethodCard) -> tuple[str, ...]:
    """Kinds of history that a run writes: those asked for, and those that a rule of it writes.

    Args:
        given: as in ``plan.record``: a kind, or a list of them.
        rows: of ``plan.rules``.
        method: of the run.

    Raises:
        PlanError: nothing of the run writes such a kind.
    """
    kinds = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    accepted = tuple(dict.fromkeys((*_recorders(), *method.keeps)))
    for kind in kinds:
        if kind not in accepted:
            raise PlanError(unknown("history to record", str(kind), accepted))
        if method.edits and kind not in method.keeps:
            raise PlanError(f"record {kind}: method {method.name!r} edits the weights and takes no steps; leave it out")
    by_rules = (row[WHICH] for row in rows if row[WHICH] in _recorders())
    return tuple(dict.fromkeys((*map(str, kinds), *by_rules)))


def rules_to_record(kinds: Sequence[str], rows: _Rows, method: MethodCard) -> tuple[dict[str, Any], ...]:
    """Rules that are missing for what is to be recorded, with their default options."""
    there, wanted = {row[WHICH] for row in rows}, dict.fromkeys((*kinds, *method.keeps))
    missing = [kind for kind in wanted if kind in _recorders() and kind not in there]
    return rules.chosen([{WHICH: kind} for kind in missing]) if missing else ()


def check_recordable(kinds: Sequence[str], scope: Mapping[str, Any]) -> None:
    """Refuse to record steps of what is not there any more when the run has ended.

    Raises:
        PlanError: steps of an adapter, which is merged when the folder is loaded.
    """
    for kind in kinds:
        if kind in _OF_WEIGHTS and scope.get("kind") == "lora":
            raise PlanError(
                f"record {kind} beside scope.kind = lora: the steps of an adapter are none of the weights that it is "
                "merged into; accepted: scope.kind = all or layers, or no record"
            )


def _recorders() -> tuple[str, ...]:
    """Kinds of history that a rule of the same name writes."""
    made = rules.names()
    return tuple(kind for kind in companions.names() if kind in made)
