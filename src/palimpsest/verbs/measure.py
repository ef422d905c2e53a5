"""Measure a model on one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from palimpsest.data.read.layout import Source
from palimpsest.engine.measured_set import measure_set
from palimpsest.engine.progress import silent
from palimpsest.errors import PlanError
from palimpsest.models.as_it_was import as_it_was
from palimpsest.verbs.arguments import MeasureArguments, as_texts, path_of, refuse_unknown, to_measure
from palimpsest.verbs.in_memory import Model, on_disk

if TYPE_CHECKING:
    from palimpsest.metrics.evaluate import Evaluation


@as_it_was()
def measure(
    model: str | Path | Model,
    data: Source,
    *,
    metrics: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    show: int = 0,
    **arguments: Unpack[MeasureArguments],
) -> Evaluation:
    """Measure what a model knows of some examples.

    Args:
        model: folder, Hub name, or a model in memory (``Model.of``).
        data: file, folder or Hub name, or rows in memory (``data/read/examples.py``).
        metrics: names; None = ma, el and es of texts, accuracy and prob of images.
        options: metric -> its options, e.g. {"el": {"n": 10, "first_prefix": 150}}.
        show: answers of the model to so many prompts: the most known example first, the others spread evenly down to
            the least known; all where there are no more.
        arguments: see ``palimpsest.verbs.arguments.MeasureArguments``.

    Returns:
        Scores with per-example values, the cost of the measuring alone, and the answers asked for.

    Raises:
        UsageError: something supplied cannot be used.
    """
    refuse_unknown(arguments, MeasureArguments.__annotations__)
    if isinstance(show, bool) or not isinstance(show, int) or show < 0:
        raise PlanError(f"show is {show!r}; accepted: 0 or more examples")
    names = None if metrics is None else as_texts(metrics, "metrics")
    values = {"model": model}
    with on_disk(values, tokenizer_needed=not arguments.get("token_ids")):
        asked = to_measure(path_of(values["model"], "model"), data, arguments)
        asked = replace(asked, metrics=names, options=options or {}, show=show)
        return measure_set(asked, arguments.get("progress") or silent)
