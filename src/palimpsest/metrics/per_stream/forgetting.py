"""FM, forgetting: how far each task has fallen from its best to the end of the stream.

Source: Chaudhry et al. 2018, arXiv:1801.10112, Eq. 3; the last task, which nothing came after, is not in the mean.

    FM = 1/(T-1) * sum_{t<T} max_{j<T} (R_jt - R_Tt)      R_jt: accuracy after request j on task t, points

Where a part of a task is forgotten on request, R_jt - R_Tt is over what is still known at the end.

By hand, rows (90), (80, 88), (70, 75, 92), (60, 78, 85, 95): (30 + 10 + 7) / 3 = 15.67.
"""

from __future__ import annotations

from palimpsest.metrics.per_stream import Course, StreamMetric, mean_of, rise


class Forgetting(StreamMetric):
    """Mean over the tasks of their best earlier accuracy less the last; negative when all rose."""

    column = "FM"
    means = "forgetting: best earlier accuracy of a task less its last, points"
    place = 20
    version = 1

    def compute(self, course: Course) -> float | None:
        """Points."""
        falls = []
        for task, last in course.last.items():
            risen = [value for then in course.earlier(task) if (value := rise(then, last)) is not None]
            falls.append(-100 * min(risen) if risen else None)
        return mean_of(falls)


STREAM_METRIC = Forgetting
