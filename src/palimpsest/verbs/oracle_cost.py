"""What training an oracle cost, over all the runs that made it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palimpsest.errors import DataError
from palimpsest.report.schema import CostRow, RunResult
from palimpsest.verbs.output import RESULT
from palimpsest.verbs.plan import Plan


def oracle_cost(plan: Plan) -> dict[str, CostRow]:
    """Cost of the runs that led to the oracle and not to the model too; empty if its folder is no run of ours.

    An oracle may be trained in several runs, one on top of another. What model and oracle have in common, such as
    training the base, counts for neither.
    """
    if plan.oracle is None:
        return {}
    shared = {str(Path(plan.model).resolve()), *(folder for folder, _ in _runs(plan.model))}
    if plan.base is not None:
        shared.add(str(Path(plan.base).resolve()))
    costs: list[CostRow] = []
    for folder, result in _runs(plan.oracle):
        if folder in shared:
            break
        costs += [result.cost[part] for part in ("preparing", "training") if part in result.cost]
    if not costs:
        return {}
    seconds, tokens = sum(c.seconds for c in costs), sum(c.tokens for c in costs)
    return {"oracle_training": CostRow(seconds=seconds, tokens=tokens, peak_bytes=max(c.peak_bytes for c in costs))}


def _runs(source: str) -> Iterator[tuple[str, RunResult]]:
    """The run of a folder, the run of the folder it started from, and so on, as far as they are there."""
    seen: set[str] = set()
    folder: Path | None = Path(source).resolve()
    while folder is not None and str(folder) not in seen and (folder / RESULT).is_file():
        seen.add(str(folder))
        try:
            result = RunResult.load(folder / RESULT)
        except DataError:  # of another version; what it cost is not known
            return
        yield str(folder), result
        folder = _start(result.plan)


def _start(plan: dict[str, Any]) -> Path | None:
    """Where the weights of a run started; a relative path is one of the directory the run was called in."""
    start = plan.get("base") if plan.get("method") == "retrain" else plan.get("model")
    return None if not isinstance(start, str) else Path(start).resolve()
