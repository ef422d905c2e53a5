"""What a run asks of a model that answers for money: told before the first question, and held against the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palimpsest import methods
from palimpsest.engine.measuring import MEASURED
from palimpsest.engine.plan import Plan
from palimpsest.engine.progress import Progress
from palimpsest.engine.save import EXAMPLES
from palimpsest.errors import PlanError
from palimpsest.models.black_boxes.box import NUM_PROBES
from palimpsest.models.load import Loaded
from palimpsest.report.schema import RunResult

_COLUMNS = 2  # before and after


def queries_of_run(plan: Plan, sizes: Mapping[str, int]) -> int:
    """Questions that a run asks at most: what was asked before is not asked again, so that it can be fewer.

    Args:
        plan: of the run.
        sizes: set -> its examples.
    """
    kind = methods.load(plan.method)
    drawn = kind.draws_from(sizes)
    measured = sum(min(number, plan.measuring.limit) for name, number in sizes.items() if name in MEASURED)
    checked = sum(min(number, EXAMPLES) for number in sizes.values()) + len(drawn)
    training = plan.training
    rows = sizes[drawn[0]] if drawn else 0
    config = methods.configure(plan.method, plan.options)
    asked = kind.queries(config, training.planned_steps(rows), training.batch_size, rows)
    return NUM_PROBES + _COLUMNS * measured + checked + asked


def tell_queries(plan: Plan, sets: Mapping[str, Any], before: Loaded, progress: Progress) -> None:
    """Say what a run will cost, of a model that is asked; of any other nothing.

    Raises:
        PlanError: more than the budget; nothing was asked.
    """
    if not before.family.has_gradient:
        queries = queries_of_run(plan, {name: len(rows) for name, rows in sets.items()})
        steps = f", or fewer steps and directions (training.max_steps, {plan.method}.q)" if "q" in plan.options else ""
        _tell(before, queries, progress, f"a larger budget, fewer rows{steps}")


def tell_measuring(loaded: Loaded, rows: int, progress: Progress) -> None:
    """The same of measuring one set."""
    if not loaded.family.has_gradient:
        probes = 0 if loaded.model.questions.expected is None else NUM_PROBES
        _tell(loaded, rows + probes, progress, "a larger budget or fewer rows")


def _tell(loaded: Loaded, queries: int, progress: Progress, cure: str) -> None:
    facts = loaded.model.questions.facts
    if facts.budget is not None and queries > facts.budget:
        raise PlanError(
            f"this asks up to {queries} queries and the budget of {loaded.source} is {facts.budget}; nothing was "
            f"asked; give {cure}"
        )
    progress("this run", 0, 0, f"at most {queries} queries{priced(queries, facts.price_per_query)}")


def priced(queries: int, price: float) -> str:
    """What they cost, in words; nothing of what is free.

    >>> priced(2000, 0.001), priced(5, 0.0)
    (', 2.00 at 0.001 each', '')
    """
    return f", {queries * price:.2f} at {price:g} each" if price else ""


def with_queries(result: RunResult, before: Loaded) -> RunResult:
    """The result with a note on what was asked."""
    if before.family.has_gradient:
        return result
    questions = before.model.questions
    ledger = questions.ledger
    lost = f", {ledger.lost} of them without an answer" if ledger.lost else ""
    note = f"{ledger.spent} queries were spent{lost}{priced(ledger.spent, questions.facts.price_per_query)}."
    return result.model_copy(update={"notes": (*result.notes, note)})
