"""Relapse: how far a forget set comes back after it was forgotten, in accuracy.

Source: ours.

    relapse = max over the forget sets i and requests j > i of (R_ji - R_ii)      R_ji: accuracy after request j, points

By hand: a forget set at 10 after its request, then 12.5 and 11: 2.5; another that only falls changes nothing.
"""

from __future__ import annotations

from palimpsest.metrics.per_stream import Course, StreamMetric, worst_relapse


class RelapseAccuracy(StreamMetric):
    """Highest later rise of any forget set above its accuracy right after its request."""

    column = "relapse"
    means = "highest later rise of accuracy on any forget set, points"
    place = 60
    version = 1

    def compute(self, course: Course) -> float | None:
        """Points."""
        value = worst_relapse(course)
        return None if value is None else 100 * value


STREAM_METRIC = RelapseAccuracy
