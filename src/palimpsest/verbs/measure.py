"""Measure a model on one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from palimpsest.audit.standing import evenly, ranked
from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout, Source, check_used
from palimpsest.engine.decoded import cost_said
from palimpsest.engine.early import check_examples
from palimpsest.engine.inputs import encode_set
from palimpsest.engine.measuring import IMAGE_METRICS
from palimpsest.engine.progress import Progress, silent
from palimpsest.engine.sections import Encoding, as_taught
from palimpsest.errors import PlanError
from palimpsest.metrics import build, refuse_modality
from palimpsest.models.sources import check_source, is_image_model
from palimpsest.records import Answer, Example, Score
from palimpsest.verbs.arguments import as_texts, path_of, refuse_unknown
from palimpsest.verbs.in_memory import Model, on_disk

if TYPE_CHECKING:
    from palimpsest.metrics.evaluate import Evaluation
    from palimpsest.models.load import Loaded

TEXT_METRICS = ("ma", "el", "es")
SAYS = "model"
"""The column of ``Answer.said`` that holds what the measured model says."""


def default_metrics(model: str | Path, revision: str | None = None) -> tuple[str, ...]:
    """What is measured when nothing is asked for: of a causal LM and of an image classifier."""
    return IMAGE_METRICS if is_image_model(model, revision) else TEXT_METRICS


class Manners(TypedDict, total=False):
    """Further keyword arguments of ``measure``.

    Attributes:
        revision: commit of a Hub name.
        token_ids: rows are ``{"id", "input_ids"}``, taken as they are.
        columns: our name -> the file's, e.g. {"prompt": "question"}.
        ignore_columns: columns of the file to leave out.
        split: of a dataset folder or Hub dataset.
        encoding: how examples become tokens.
        batch_size: examples per forward pass; changes no value.
        progress: called while it works.
        threads: CPU threads; None = one for a small model.
    """

    revision: str | None
    token_ids: bool
    columns: Mapping[str, str]
    ignore_columns: Iterable[str]
    split: str | None
    encoding: Encoding | None
    batch_size: int
    progress: Progress
    threads: int | None


def measure(
    model: str | Path | Model,
    data: Source,
    *,
    metrics: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    show: int = 0,
    **manners: Unpack[Manners],
) -> Evaluation:
    """Measure what a model knows of some examples.

    Args:
        model: folder, Hub name, or a model in memory (``Model.of``).
        data: file, folder or Hub name, or rows in memory (``data/read/examples.py``).
        metrics: names; None = those of ``default_metrics``.
        options: metric -> its options, e.g. {"el": {"n": 10, "first_prefix": 150}}.
        show: answers of the model to so many prompts: the most known example first, the others spread evenly down to
            the least known; all where there are no more.
        manners: see ``Manners``.

    Returns:
        Scores with per-example values, the cost of the measuring alone, and the answers asked for.

    Raises:
        UsageError: something supplied cannot be used.
    """
    refuse_unknown(manners, Manners.__annotations__)
    if isinstance(show, bool) or not isinstance(show, int) or show < 0:
        raise PlanError(f"show is {show!r}; accepted: 0 or more examples")
    values = {"model": model}
    with on_disk(values):
        return _measured(path_of(values["model"], "model"), data, metrics, options, show=show, manners=manners)


def _measured(
    source: str,
    data: Source,
    metrics: Sequence[str] | None,
    options: Mapping[str, Mapping[str, Any]] | None,
    *,
    show: int,
    manners: Manners,
) -> Evaluation:
    """What a model in a folder knows."""
    revision, progress = manners.get("revision"), manners.get("progress") or silent
    chosen = default_metrics(source, revision) if metrics is None else as_texts(metrics, "metrics")
    if not chosen or len(set(chosen)) < len(chosen):
        raise PlanError(f"metrics are {', '.join(chosen) or 'none'}; accepted: at least one, each once")
    built = [build(name, (options or {}).get(name, {})) for name in chosen]
    check_source(source, revision)
    refuse_modality(built, "image" if is_image_model(source, revision) else "text")
    examples = _read(data, manners, progress)
    check_examples(examples, source, revision)
    from palimpsest.metrics.evaluate import evaluate  # and torch with it

    loaded = _loaded(source, manners)
    encoded = encode_set(examples, loaded, as_taught(manners.get("encoding") or Encoding(), source))
    if note := cost_said(encoded, built, len(encoded)):
        progress("measuring", 0, len(encoded), note)
    evaluation = evaluate(
        loaded.model,
        encoded,
        built,
        eos_ids=loaded.eos_ids,
        batch_size=manners.get("batch_size", 32),
        progress=lambda done, total: progress("measuring", done, total),
    )
    if not show:
        return evaluation
    answers = _answers(loaded, examples, encoded, scores=evaluation.scores, show=show, progress=progress)
    return replace(evaluation, answers=answers)


def _loaded(source: str, manners: Manners) -> Loaded:
    """The model, on its device."""
    from palimpsest.models.load import device, load, use_threads

    needs_tokenizer = not manners.get("token_ids", False)
    loaded = load(source, revision=manners.get("revision"), tokenizer_needed=needs_tokenizer, as_stored=True)
    use_threads(loaded.model, manners.get("threads"))
    loaded.model.to(device())
    return loaded


def _read(data: Source, manners: Manners, progress: Progress) -> list[Example]:
    """The rows, and word of what was left out."""
    layout = Layout(
        manners.get("columns") or {},
        frozenset(as_texts(manners.get("ignore_columns"), "ignore_columns")),
        manners.get("split"),
        token_ids=manners.get("token_ids", False),
    )
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
