"""A_B, last accuracy: how much of all that was taught is known after the last request.

Source: Rebuffi et al. 2017 (iCaRL), arXiv:1611.07725, section 4. Over examples, where ``final_accuracy`` is over tasks:
the two differ where tasks are of different sizes.

    A_B = accuracy on all examples of all tasks after the last request, points

By hand, two tasks of one and of three examples, right (0; 1, 1, 0): 50, and the final average accuracy 33.33.
"""

from __future__ import annotations

from palimpsest.metrics.per_stream import Course, StreamMetric, level


class LastAccuracy(StreamMetric):
    """Accuracy after the last request on all that was taught."""

    column = "A_B"
    means = "accuracy over the examples of all tasks after the last request, points"
    place = 14
    version = 1

    def compute(self, course: Course) -> float | None:
        """Points."""
        together = {i: value for values in course.last.values() for i, value in values.items()}
        return 100 * level(together) if together else None


STREAM_METRIC = LastAccuracy
