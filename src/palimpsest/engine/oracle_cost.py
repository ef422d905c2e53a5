"""What training an oracle cost, over all the runs that made it; nothing where that cannot be known."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from palimpsest.engine.output import RESULT
from palimpsest.engine.plan import Plan
from palimpsest.errors import DataError, UsageError
from palimpsest.models.load import source_digest
from palimpsest.report.schema import CostRow, RunResult

PARTS = ("preparing", "training")


class _Run(NamedTuple):
    """One run of a chain: where its weights started, their digest as its plan has it, and what it cost."""

    start: str
    start_digest: str
    costs: list[CostRow]


def oracle_cost(plan: Plan) -> dict[str, CostRow]:
    """Cost of the runs that led to the oracle and not to the model too.

    An oracle may be trained in several goes, one on top of another: all of them count, back to weights that the model
    comes from as well, or to some that no run of ours made, the base. What both have in common, such as training the
    base, counts for neither.

    Returns:
        Empty if the oracle's folder is no run of ours, or if a run of its chain is gone, cannot be read, or was
        written over: a part of the cost would pass for the whole.
    """
    if plan.oracle is None:
        return {}
    shared = {plan.digests.get("model"), plan.digests.get("base"), *(run.start_digest for run in _runs(plan.model))}
    chain = _up_to(_runs(plan.oracle), shared)
    costs = [cost for run in chain for cost in run.costs]
    if not costs or not (chain[-1].start_digest in shared or _is_a_base(chain[-1])):
        return {}
    return {"oracle_training": _together(costs)}


def _together(costs: Sequence[CostRow]) -> CostRow:
    """Several runs, one after another."""
    seconds, tokens = sum(c.seconds for c in costs), sum(c.tokens for c in costs)
    return CostRow(seconds=seconds, tokens=tokens, peak_bytes=max(c.peak_bytes for c in costs))


def _up_to(runs: Iterable[_Run], shared: Container[str | None]) -> list[_Run]:
    """The first runs of a chain, the last of them from weights that it shares, where it has any."""
    chain = []
    for run in runs:
        chain.append(run)
        if run.start_digest in shared:
            break
    return chain


def _runs(source: str) -> Iterator[_Run]:
    """The run of a folder, the run that made the weights it started from, and so on, as far as they are there."""
    seen: set[str] = set()
    folder = source
    while folder not in seen and (Path(folder) / RESULT).is_file():
        seen.add(folder)
        run = _read(folder)
        if run is None:
            return
        yield run
        if not _holds(run.start, run.start_digest):
            return
        folder = run.start


def _read(folder: str) -> _Run | None:
    try:
        result = RunResult.load(Path(folder) / RESULT)
    except DataError:  # of another version; what it cost is not known
        return None
    plan: dict[str, Any] = result.plan
    role = "base" if plan.get("method") == "retrain" else "model"
    digests = plan.get("digests")
    start, digest = plan.get(role), digests.get(role) if isinstance(digests, dict) else None
    if not isinstance(start, str) or not isinstance(digest, str):
        return None
    return _Run(start, digest, [result.cost[part] for part in PARTS if part in result.cost])


def _holds(source: str, digest: str) -> bool:
    """Does a folder still hold the weights that a run started from? A relative path may now lead elsewhere."""
    try:
        return Path(source).exists() and source_digest(source) == digest
    except (UsageError, OSError):
        return False


def _is_a_base(run: _Run) -> bool:
    """Did a run start from weights that no run of ours made: a name on the Hub, or a folder without a record?"""
    if run.start_digest.startswith(f"{run.start}@"):
        return True
    return _holds(run.start, run.start_digest) and not (Path(run.start) / RESULT).exists()
