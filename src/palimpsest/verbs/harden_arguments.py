"""Keyword arguments of ``harden``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from palimpsest.data.read.layout import Source
from palimpsest.engine.progress import Progress
from palimpsest.engine.sections import Encoding


class HardenArguments(TypedDict, total=False):
    """What ``harden`` takes besides.

    Attributes:
        forget: what was forgotten: measured before and after, never taught.
        replay: earlier or general rows, taught beside retain.
        general: general text, taught beside retain; and its perplexity.
        learning_rate: of AdamW, falling to 0; None = a twentieth of the size of the model's median matrix.
        batch_size: rows of each set per step.
        seed: of noise and order.
        measuring: which metrics, as in a plan.
        revision: commit of a Hub name.
        token_ids: rows are ``{"id", "input_ids"}``, taken as they are.
        columns: our name -> the file's, e.g. {"prompt": "question"}.
        ignore_columns: columns to leave out.
        split: of dataset folders and Hub datasets.
        encoding: how examples become tokens.
        progress: called while it works.
        threads: CPU threads; None = one for a small model.
    """

    forget: Source | None
    split: str | None
    replay: Source | None
    columns: Mapping[str, str]
    general: Source | None
    encoding: Encoding | None
    measuring: Mapping[str, Any]
    token_ids: bool
    ignore_columns: Iterable[str]
    revision: str | None
    progress: Progress
    seed: int
    threads: int | None
    batch_size: int
    learning_rate: float | None
