"""Keyword arguments of ``calibrate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from palimpsest.engine.progress import Progress
from palimpsest.engine.sections import Encoding


class CalibrateArguments(TypedDict, total=False):
    """What ``calibrate`` takes besides.

    Attributes:
        tolerance: alpha may be so much too small; each halving of it asks once more.
        limit: at most so many rows of a set are asked, drawn with the seed.
        options: of the metric.
        seed: of that draw.
        revision: commit of a Hub name.
        token_ids: rows are ``{"id", "input_ids"}``, taken as they are.
        columns: our name -> the file's, e.g. {"prompt": "question"}.
        ignore_columns: columns of the file to leave out.
        split: of dataset folders and Hub datasets.
        encoding: how examples become tokens.
        progress: called while it works.
        threads: CPU threads; None = one for a small model.
    """

    tolerance: float
    limit: int
    options: Mapping[str, Any]
    seed: int
    revision: str | None
    token_ids: bool
    columns: Mapping[str, str]
    ignore_columns: Iterable[str]
    split: str | None
    encoding: Encoding | None
    progress: Progress
    threads: int | None
