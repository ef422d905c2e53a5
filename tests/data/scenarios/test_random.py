from __future__ import annotations

import pytest

from palimpsest.data.streams.scenarios.random import random_samples
from palimpsest.data.streams.tasks import Task
from palimpsest.errors import PlanError


def test_a_tenth_of_what_is_known_goes_after_each_task(five_tasks: tuple[Task, ...]) -> None:
    stream = random_samples(five_tasks, seed=0)
    sizes = [len(r.forget) for r in stream.requests if r.forget]
    known, expected = 0, []
    for _ in five_tasks:
        known += 12
        expected.append(max(1, round(known / 10)))
        known -= expected[-1]
    assert sizes == expected == [1, 2, 3, 4, 5]
    gone = [i for r in stream.requests for i in r.forget]
    assert len(set(gone)) == len(gone)
    assert stream != random_samples(five_tasks, seed=1)
    few = random_samples(five_tasks[:1], seed=0, share=0.001)
    assert len(few.requests[1].forget) == 1


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_out_of_range_is_refused(five_tasks: tuple[Task, ...], share: float) -> None:
    with pytest.raises(PlanError, match="to unlearn; accepted: above 0 and below 1"):
        random_samples(five_tasks, seed=0, share=share)
