"""Measure a model on one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palimpsest.audit.asking import as_answers, say
from palimpsest.audit.standing import evenly, ranked
from palimpsest.data.examples import read_examples
from palimpsest.errors import PlanError
from palimpsest.metrics import build
from palimpsest.metrics.evaluate import Evaluation, evaluate
from palimpsest.models.load import check_folder, device, is_image_model, load, use_threads
from palimpsest.verbs.inputs import encode_set
from palimpsest.verbs.measuring import IMAGE_METRICS
from palimpsest.verbs.plan import Encoding
from palimpsest.verbs.progress import Progress, silent

TEXT_METRICS = ("ma", "el", "es")
SAYS = "model"
"""The column of ``Answer.said`` that holds what the measured model says."""


def default_metrics(model: str | Path, revision: str | None = None) -> tuple[str, ...]:
    """What is measured when nothing is asked for: of a causal LM and of an image classifier."""
    return IMAGE_METRICS if is_image_model(model, revision) else TEXT_METRICS


def measure(
    model: str | Path,
    data: str | Path,
    *,
    metrics: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    token_ids: bool = False,
    revision: str | None = None,
    encoding: Encoding | None = None,
    batch_size: int = 32,
    progress: Progress = silent,
    threads: int | None = None,
    ignore_columns: Iterable[str] = (),
    show: int = 0,
) -> Evaluation:
    """Measure what a model knows of the examples in a file.

    Args:
        model: folder or Hub name.
        data: file, image folder or Hub name.
        metrics: names; None = those of ``default_metrics``.
        options: metric -> its options, e.g. {"el": {"n": 10, "first_prefix": 150}}.
        token_ids: rows are ``{"id", "input_ids"}``, taken as they are.
        revision: commit of a Hub name.
        encoding: how examples become tokens.
        batch_size: examples per forward pass.
        progress: called while it works.
        threads: CPU threads; None = one for a small model.
        ignore_columns: columns of the file to leave out.
        show: answers of the model to so many prompts: the most known example first, the others spread evenly down to
            the least known; all where the file holds no more.

    Returns:
        Scores with per-example values, the cost of the measuring alone, and the answers asked for.

    Raises:
        UsageError: something supplied cannot be used.
    """
    if show < 0:
        raise PlanError(f"show is {show}; accepted: 0 or more examples")
    chosen = default_metrics(model, revision) if metrics is None else metrics
    built = [build(name, (options or {}).get(name, {})) for name in chosen]
    examples = read_examples(data, token_ids=token_ids, ignore_columns=frozenset(ignore_columns))
    if Path(model).exists():
        check_folder(Path(model))
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
    ids = evenly(ranked(evaluation.scores) or encoded.ids, show)
    said = say(loaded, encoded, ids, progress=lambda done, total: progress("answers", done, total))
    answers = as_answers(examples, encoded, loaded, dict.fromkeys(ids, ""), {SAYS: said})
    return replace(evaluation, answers=tuple(answers))
