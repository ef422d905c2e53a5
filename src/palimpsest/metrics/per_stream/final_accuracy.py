"""ACC, final average accuracy: how much of all tasks is known after the last request.

Source: Lopez-Paz and Ranzato 2017, arXiv:1706.08840, section 2; as A_T Chaudhry et al. 2018, arXiv:1801.10112, Eq. 2.

    ACC = 1/T * sum_t R_Tt      R_jt: accuracy after request j on what is still known of task t, points

By hand, rows (90), (80, 88), (70, 75, 92), (60, 78, 85, 95): (60 + 78 + 85 + 95) / 4 = 79.5.
"""

from __future__ import annotations

from palimpsest.metrics.per_stream import Course, StreamMetric, level, mean_of


class FinalAccuracy(StreamMetric):
    """Mean over the tasks of which something is known after the last request."""

    column = "ACC"
    means = "final average accuracy over the tasks, points"
    place = 10
    version = 1

    def compute(self, course: Course) -> float | None:
        """Points."""
        return mean_of([100 * level(values) for values in course.last.values()])


STREAM_METRIC = FinalAccuracy
