"""Measure a model on one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.data.examples import read_examples
from palimpsest.metrics import build, refuse_modality
from palimpsest.models.sources import check_source, is_image_model
from palimpsest.verbs.early import check_examples
from palimpsest.verbs.inputs import encode_set
from palimpsest.verbs.measuring import IMAGE_METRICS
from palimpsest.verbs.plan import Encoding
from palimpsest.verbs.progress import Progress, silent

if TYPE_CHECKING:
    from palimpsest.metrics.evaluate import Evaluation

TEXT_METRICS = ("ma", "el", "es")


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

    Returns:
        Scores with per-example values, and the cost of the measuring alone.

    Raises:
        UsageError: something supplied cannot be used.
    """
    chosen = default_metrics(model, revision) if metrics is None else metrics
    built = [build(name, (options or {}).get(name, {})) for name in chosen]
    check_source(model, revision)
    refuse_modality(built, "image" if is_image_model(model, revision) else "text")
    examples = read_examples(data, token_ids=token_ids, ignore_columns=frozenset(ignore_columns))
    check_examples(examples, str(model), revision)
    from palimpsest.metrics.evaluate import evaluate  # and torch with it
    from palimpsest.models.load import device, load, use_threads

    loaded = load(model, revision=revision, tokenizer_needed=not token_ids, as_stored=True)
    use_threads(loaded.model, threads)
    loaded.model.to(device())
    encoded = encode_set(examples, loaded, encoding or Encoding())
    return evaluate(
        loaded.model,
        encoded,
        built,
        eos_ids=loaded.eos_ids,
        batch_size=batch_size,
        progress=lambda done, total: progress("measuring", done, total),
    )
