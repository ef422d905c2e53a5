"""Relapse in extraction strength: how far a forget set of texts comes back after it was forgotten.

Source: ours.

    relapse ES = max over the forget sets i and requests j > i of (ES_ji - ES_ii)      ES_ji: ES after request j

By hand: a forget set at 0.10 after its request, then 0.30 and 0.20: 0.20.
"""

from __future__ import annotations

from palimpsest.metrics.per_stream import Course, StreamMetric, worst_relapse


class RelapseStrength(StreamMetric):
    """Highest later rise of any forget set above its ES right after its request."""

    column = "relapse ES"
    means = "highest later rise of extraction strength on any forget set, a share"
    of = "strength"
    place = 70
    version = 1

    def compute(self, course: Course) -> float | None:
        """A share."""
        return worst_relapse(course)


STREAM_METRIC = RelapseStrength
