"""In which way a verdict that was reached anew is not the recorded one, and why."""

from __future__ import annotations

from collections.abc import Iterable

from palimpsest.report.schema import RunResult, VerdictRow


def verdict_moved(result: RunResult, now: VerdictRow | None, *, asked_anew: bool) -> str:
    """One sentence where the outcomes differ, else nothing.

    Args:
        result: the record, with the verdict that was reached before.
        now: what its scores give.
        asked_anew: were other gates given than those of the run?
    """
    then, outcome = _outcome(result.verdict), _outcome(now)
    if then == outcome:
        return ""
    if asked_anew:
        why = "other gates were given"
    elif result.gates is not None:
        why = "that is what its recorded scores give by its recorded gates"
    else:
        why = _other_defaults(result.verdict, now) or "this version decides by other rules"
    return f"The run was recorded as {then} and is {outcome} now: {why}."


def _outcome(verdict: VerdictRow | None) -> str:
    return "not judged" if verdict is None else str(verdict.outcome)


def _other_defaults(then: VerdictRow | None, now: VerdictRow | None) -> str:
    """What is asked now and was not, or the reverse; empty where it is the same."""
    old, new = ([] if row is None else [gate.gate for gate in row.gates] for row in (then, now))
    gone, come = _without(old, new), _without(new, old)
    said = [f"no longer {gone}"] * bool(gone) + [f"besides {come}"] * bool(come)
    return f"this version asks other things by default ({', '.join(said)})" if said else ""


def _without(gates: Iterable[str], others: Iterable[str]) -> str:
    left = set(others)
    return "; ".join(gate for gate in gates if gate not in left)
