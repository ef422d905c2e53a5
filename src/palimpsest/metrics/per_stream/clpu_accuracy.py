"""CLPU's average accuracy A: what is kept of the tasks, over the whole stream and not at its end alone.

Source: as in the code of CLPU (Liu, Liu, Stone 2022, arXiv:2203.12817).

    A = sum_{j,t} kept_jt * R_jt / sum_{j,t} kept_jt      R_jt: accuracy after request j on task t, points

By hand, rows (90), (80, 88), (70, 75, 92), (60, 78, 85, 95), all kept: 813 / 10 = 81.3. The field's average accuracy is
``final_accuracy``.
"""

from __future__ import annotations

from palimpsest.metrics.per_stream import Course, StreamMetric, level, mean_of


class CLPUAccuracy(StreamMetric):
    """Mean over all requests and the tasks of which something is kept after them."""

    column = "A CLPU"
    means = "accuracy of what is kept, over all requests, points"
    place = 40
    version = 1

    def compute(self, course: Course) -> float | None:
        """Points."""
        return mean_of([100 * level(values) for tasks in course.taught for values in tasks.values()])


STREAM_METRIC = CLPUAccuracy
