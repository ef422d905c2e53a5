"""Ā, average incremental accuracy: how much of all that was taught so far is known, over the whole stream.

Source: Rebuffi et al. 2017 (iCaRL), arXiv:1611.07725, section 4; the mean over the requests that the field calls Ā, or
A-bar.

    Ā = 1/B * sum_b A_b      A_b: accuracy on all examples of the tasks taught until request b, points

By hand, two tasks of one and of three examples, right (1), then (0; 1, 1, 0): (100 + 50) / 2 = 75.
"""

from __future__ import annotations

from palimpsest.metrics.per_stream import Course, StreamMetric, level, mean_of


class IncrementalAccuracy(StreamMetric):
    """Mean over the requests of the accuracy on all that was taught by then."""

    column = "A-bar"
    means = "average incremental accuracy: over the examples of all tasks so far, mean over the requests, points"
    place = 12
    version = 1

    def compute(self, course: Course) -> float | None:
        """Points."""
        together = [{i: value for values in tasks.values() for i, value in values.items()} for tasks in course.taught]
        return mean_of([100 * level(values) for values in together if values])


STREAM_METRIC = IncrementalAccuracy
