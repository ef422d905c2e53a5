"""Accuracy: the share of examples that the model gets wholly right.

Source: Krizhevsky 2009, Learning multiple layers of features from tiny images, for images; for texts it is the exact
match of the teacher-forced answer.

    accuracy = 1/N * sum_x [ argmax_v p(v | ...) is right at every scored position of x ]

An image has one scored position, its class; a text as many as label tokens.

By hand: images of the classes 3 and 1, arg-maxes 3 and 2: 1/2. A text of two label tokens of which one is right: 0.
"""

from __future__ import annotations

from palimpsest.metrics.metric import Facts, Metric, Statistics
from palimpsest.records import Direction


class Accuracy(Metric):
    """Accuracy; per example 0 or 1, over a set the share."""

    means = (
        "The share of examples that the model gets wholly right: the class of an image, or every token of an answer."
    )
    direction = Direction.HIGHER
    modalities = ("text", "labels", "image")
    unit = "share of examples"
    image_unit = "share of images"
    label_unit = "share of texts"
    version = 1

    def update(self, facts: Facts) -> Statistics | None:
        """Is everything right, out of one; None without label positions."""
        if not len(facts.right_S):
            return None
        return Statistics(float(facts.right_S.all()), 1.0)


METRIC = Accuracy
