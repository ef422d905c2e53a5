"""Measure a model on one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from palimpsest.data.examples import read_examples
from palimpsest.metrics import build
from palimpsest.metrics.evaluate import Evaluation, evaluate
from palimpsest.models.load import check_folder, device, load, use_threads
from palimpsest.verbs.inputs import encode_set
from palimpsest.verbs.plan import Encoding
from palimpsest.verbs.progress import Progress, silent


def measure(
    model: str | Path,
    data: str | Path,
    *,
    metrics: Sequence[str] = ("ma", "el", "es"),
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
        data: file or Hub name.
        metrics: names.
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
    built = [build(name, (options or {}).get(name, {})) for name in metrics]
    examples = read_examples(data, token_ids=token_ids, ignore_columns=frozenset(ignore_columns))
    if Path(model).exists():
        check_folder(Path(model))
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
