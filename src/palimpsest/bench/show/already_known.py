"""Did the first model know what it was to learn? Then every oracle, which starts there, knows what is to be forgotten.

The model is read on what the first request teaches, before it learned anything, and the request's oracle beside it:

    by heart     acc(model, learn) − acc(model, test) >= max(1/10, half of acc(oracle, learn) − acc(model, test))
    nothing new  acc(model, learn) >= 9/10 of acc(oracle, learn)

The first says that these rows are known better than comparable ones that no model learns, and that at least half of the
way that learning goes was gone before; it needs test data. The second, that learning adds next to nothing, whether the
rows were learned or are easy. A fresh network passes both: it scores alike on both sets, and little.
"""

from __future__ import annotations

from collections.abc import Iterator

from palimpsest.bench.results import ORACLE, BenchResult, StepReading

LEAST_LEAD, HALF_WAY, NEXT_TO_NOTHING = 0.1, 0.5, 0.9


def knows_already(start: float, learned: float, unseen: float | None) -> bool:
    """Was what is to be learned known before?

    Args:
        start: accuracy of the first model on what is to be learned, a share.
        learned: of the oracle, which has learned it.
        unseen: of the first model on test data, or None.

    >>> knows_already(0.4, 1.0, 0.38), knows_already(0.8, 1.0, 0.38), knows_already(0.95, 1.0, None)
    (False, True, True)
    """
    by_heart = unseen is not None and start - unseen >= max(LEAST_LEAD, HALF_WAY * (learned - unseen))
    return by_heart or start >= NEXT_TO_NOTHING * learned


def known_before(result: BenchResult) -> Iterator[str]:
    """A warning for the first seed whose first request taught what the model knew; none where nothing was read."""
    for seed, steps in result.rows[ORACLE].items():
        start, after = steps[0].start, steps[0].reading
        if start is None or "learn" not in start.sets:
            continue
        numbers = (start.sets["learn"].accuracy, after.sets["learn"].accuracy, _unseen(start))
        if knows_already(*numbers):
            yield _warning(result.streams[seed][0].name, *numbers)
            return


def _unseen(start: StepReading) -> float | None:
    return start.sets["test"].accuracy if "test" in start.sets else None


def _warning(name: str, start: float, learned: float, unseen: float | None) -> str:
    tested = "" if unseen is None else f", and on {100 * unseen:.0f} % of test data"
    return (
        f"The model knew what request 0 ({name!r}) was to teach before it learned anything: it is right on "
        f"{100 * start:.0f} % of it, the oracle that learned it on {100 * learned:.0f} %{tested}. Oracles start from "
        "this model, so that they know what is to be forgotten, and no distance to them says that it was; give --model "
        "the model from before."
    )
