"""BWT, backward transfer: what later requests did to each task since it was taught.

Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840, section 2.

    BWT = 1/(T-1) * sum_{t<T} (R_Tt - R_tt)      R_jt: accuracy after request j on task t, points

Where a part of a task is forgotten on request, R_Tt - R_tt is over what is still known at the end.

By hand, rows (90), (80, 88), (70, 75, 92), (60, 78, 85, 95): (-30 - 10 - 7) / 3 = -15.67.
"""

from __future__ import annotations

from palimpsest.metrics.per_stream import Course, StreamMetric, mean_of, rise


class BWT(StreamMetric):
    """Mean over the tasks of their last accuracy less the one when taught; negative is loss."""

    column = "BWT"
    means = "backward transfer: last accuracy of a task less that when taught, points"
    place = 30
    version = 1

    def compute(self, course: Course) -> float | None:
        """Points."""
        pairs = [(course.earlier(task), last) for task, last in course.last.items()]
        risen = [rise(earlier[0], last) for earlier, last in pairs if earlier]
        return mean_of([None if value is None else 100 * value for value in risen])


STREAM_METRIC = BWT
