"""Models that somebody else holds: an endpoint or a function that is asked. One family for each kind of them."""

from __future__ import annotations

from palimpsest.models.black_boxes import all_boxes

FAMILIES = tuple(box.family for box in all_boxes())
