"""CLPU's forgetting F: how far the tasks are below where they were taught, over the whole stream.

Source: as in the code of CLPU (Liu, Liu, Stone 2022, arXiv:2203.12817).

    F = sum_{j,t} kept_jt * (R_tt - R_jt) / sum_{j,t} kept_jt      R_jt: accuracy after request j on task t, points

Every task's own first reading, always 0, is in the mean, so F is below what the field calls forgetting
(``forgetting``), and more so the shorter the stream.

By hand, rows (90), (80, 88), (70, 75, 92), (60, 78, 85, 95), all kept: 90 / 10 = 9.0.
"""

from __future__ import annotations

from palimpsest.metrics.per_stream import ById, Course, StreamMetric, mean_of, rise


class CLPUForgetting(StreamMetric):
    """Mean over all requests and kept tasks of the accuracy when taught less the one now; negative when it rose."""

    column = "F CLPU"
    means = "fall of what is kept since it was taught, over all requests, points"
    place = 50
    version = 1

    def compute(self, course: Course) -> float | None:
        """Points."""
        first: dict[str, ById] = {}
        rises = [rise(first.setdefault(task, now), now) for tasks in course.taught for task, now in tasks.items()]
        fall = mean_of([None if value is None else -value for value in rises])
        return None if fall is None else 100 * fall


STREAM_METRIC = CLPUForgetting
