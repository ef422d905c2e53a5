"""Measure a model on one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from palimpsest.audit.standing import evenly, ranked
from palimpsest.data.examples import read_rows
from palimpsest.data.layout import Layout, Source, check_used
from palimpsest.errors import PlanError
from palimpsest.metrics import build, refuse_modality
from palimpsest.models.sources import check_source, is_image_model
from palimpsest.records import Answer, Example, Score
from palimpsest.verbs.arguments import listed, path_of
from palimpsest.verbs.early import check_examples
from palimpsest.verbs.inputs import encode_set
from palimpsest.verbs.measuring import IMAGE_METRICS
from palimpsest.verbs.plan import Encoding
from palimpsest.verbs.progress import Progress, silent

if TYPE_CHECKING:
    from palimpsest.metrics.evaluate import Evaluation
    from palimpsest.models.load import Loaded

TEXT_METRICS = ("ma", "el", "es")
SAYS = "model"
"""The column of ``Answer.said`` that holds what the measured model says."""


def default_metrics(model: str | Path, revision: str | None = None) -> tuple[str, ...]:
    """What is measured when nothing is asked for: of a causal LM and of an image classifier."""
    return IMAGE_METRICS if is_image_model(model, revision) else TEXT_METRICS


def measure(
    model: str | Path,
    data: Source,
    *,
    metrics: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    token_ids: bool = False,
    revision: str | None = None,
    encoding: Encoding | None = None,
    batch_size: int = 32,
    progress: Progress = silent,
    threads: int | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    ignore_columns: Iterable[str] = (),
    split: str | None = None,
    show: int = 0,
) -> Evaluation:
    """Measure what a model knows of the examples in a file.

    Args:
        model: folder or Hub name.
        data: file, folder or Hub name, or rows in memory (``data/examples.py``).
        metrics: names; None = those of ``default_metrics``.
        options: metric -> its options, e.g. {"el": {"n": 10, "first_prefix": 150}}.
        token_ids: rows are ``{"id", "input_ids"}``, taken as they are.
        revision: commit of a Hub name.
        encoding: how examples become tokens.
        batch_size: examples per forward pass.
        progress: called while it works.
        threads: CPU threads; None = one for a small model.
        columns: our name -> the file's, e.g. {"prompt": "question"}.
        ignore_columns: columns of the file to leave out.
        split: of a dataset folder or Hub dataset.
        show: answers of the model to so many prompts: the most known example first, the others spread evenly down to
            the least known; all where the file holds no more.

    Returns:
        Scores with per-example values, the cost of the measuring alone, and the answers asked for.

    Raises:
        UsageError: something supplied cannot be used.
    """
    if show < 0:
        raise PlanError(f"show is {show}; accepted: 0 or more examples")
    model = path_of(model, "model")
    chosen = default_metrics(model, revision) if metrics is None else metrics
    built = [build(name, (options or {}).get(name, {})) for name in chosen]
    check_source(model, revision)
    refuse_modality(built, "image" if is_image_model(model, revision) else "text")
    layout = Layout(columns, frozenset(listed(ignore_columns, "ignore_columns")), split, None, token_ids)
    examples = _read(data, layout, progress)
    check_examples(examples, model, revision)
    from palimpsest.metrics.evaluate import evaluate  # and torch with it
    from palimpsest.models.load import device, load, use_threads

    loaded = load(model, revision=revision, tokenizer_needed=not token_ids, as_stored=True)
    use_threads(loaded.model, threads)
    loaded.model.to(device())
    encoded = encode_set(examples, loaded, encoding or Encoding())
    evaluation = evaluate(
        loaded.model,
        encoded,
        built,
        eos_ids=loaded.eos_ids,
        batch_size=batch_size,
        progress=lambda done, total: progress("measuring", done, total),
    )
    if not show:
        return evaluation
    answers = _answers(loaded, examples, encoded, scores=evaluation.scores, show=show, progress=progress)
    return replace(evaluation, answers=answers)


def _read(data: Source, layout: Layout, progress: Progress) -> list[Example]:
    """The rows, and word of what was left out."""
    rows = read_rows(data, layout, name="data")
    check_used(layout, [rows])
    for note in rows.notes:
        progress("reading data", len(rows.examples), len(rows.examples), note)
    return rows.examples


def _answers(
    loaded: Loaded,
    examples: Sequence[Example],
    encoded: Any,
    *,
    scores: Mapping[str, Score],
    show: int,
    progress: Progress,
) -> tuple[Answer, ...]:
    """What the model says to so many prompts of a set."""
    from palimpsest.audit.asking import as_answers, say

    ids = evenly(ranked(scores) or encoded.ids, show)
    said = say(loaded, encoded, ids, progress=lambda done, total: progress("answers", done, total))
    return tuple(as_answers(examples, encoded, loaded, dict.fromkeys(ids, ""), {SAYS: said}))
