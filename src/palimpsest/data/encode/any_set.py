"""The kinds of encoded sets there are, by what is scored of an example."""

from __future__ import annotations

from palimpsest.data.encode.batch import TextSet
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.labelled import LabelSet

ClassSet = ImageSet | LabelSet
"""One class of each example."""
MeasuredSet = TextSet | ClassSet
"""Tokens, of texts and of completions (``PairSet`` is a ``TextSet``), or a class."""
