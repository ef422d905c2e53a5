"""What one model knows of one set, without a run around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from palimpsest.audit.standing import evenly, ranked
from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout, Source, check_used
from palimpsest.engine.decoded import cost_said
from palimpsest.engine.early import check_examples, check_untouched
from palimpsest.engine.inputs import encode_set
from palimpsest.engine.progress import Progress, silent
from palimpsest.engine.sections import Encoding, as_taught
from palimpsest.errors import PlanError
from palimpsest.metrics import build, refuse_kind
from palimpsest.models.as_it_was import as_it_was
from palimpsest.models.parts.parts_folder import bears_parts
from palimpsest.models.sources import check_source, family_of
from palimpsest.records import Answer, Example, Score

if TYPE_CHECKING:
    from palimpsest.metrics.evaluate import Evaluation
    from palimpsest.models.load import Loaded

SAYS = "model"
"""The column of ``Answer.said`` that holds what the measured model says."""


def default_metrics(model: str | Path, revision: str | None = None) -> tuple[str, ...]:
    """What is measured when nothing is asked for, by the family of the model."""
    return family_of(model, revision).alone


@dataclass(frozen=True)
class ToMeasure:
    """One set, one model, and what is asked of them.

    Attributes:
        model: folder or Hub name.
        data: the set.
        layout: how its rows are read.
        metrics: names; None = those of ``default_metrics``.
        options: metric -> its options.
        encoding: how examples become what the model takes.
        revision: commit of a Hub name.
        batch_size: examples per forward pass; changes no value.
        threads: CPU threads; None = one for a small model.
        show: answers to so many prompts, the most known example's first.
        without_parts: the weights alone: no part of a version, and no adapter.
        probe: what a linear probe finds of each class in the features, too.
    """

    model: str
    data: Source
    layout: Layout = field(default_factory=Layout)
    metrics: Sequence[str] | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    encoding: Encoding = field(default_factory=Encoding)
    revision: str | None = None
    batch_size: int = 32
    threads: int | None = None
    show: int = 0
    without_parts: bool = False
    probe: bool = False


def measure_set(asked: ToMeasure, progress: Progress = silent) -> Evaluation:
    """Read, encode, measure, and ask where answers are wanted.

    Args:
        asked: what to measure.
        progress: called while it works.

    Raises:
        UsageError: something of it cannot be used; before torch is there, as far as that goes.
    """
    metrics = _metrics(asked)
    _check_has_parts(asked)
    _check_says(asked)
    _check_probed(asked)
    check_untouched(asked.model, progress)
    examples = _read(asked, progress)
    check_examples(examples, asked.model, asked.revision)
    from palimpsest.engine.query_cost import tell_measuring
    from palimpsest.metrics.evaluate import evaluate  # and torch with it

    with as_it_was():  # now that torch is there
        loaded = _loaded(asked)
        encoded = encode_set(examples, loaded, as_taught(asked.encoding, asked.model))
        tell_measuring(loaded, len(encoded), progress)
        if note := cost_said(encoded, metrics, len(encoded)):
            progress("measuring", 0, len(encoded), note)
        evaluation = evaluate(
            loaded.model,
            encoded,
            metrics,
            eos_ids=loaded.eos_ids,
            batch_size=asked.batch_size,
            progress=lambda done, total: progress("measuring", done, total),
        )
        if asked.probe:
            from palimpsest.engine.probing import probed_classes

            evaluation = replace(evaluation, probe=probed_classes(loaded, encoded, progress))
        if not asked.show:
            return evaluation
        answers = _answers(loaded, examples, encoded, scores=evaluation.scores, show=asked.show, progress=progress)
        return replace(evaluation, answers=answers)


def _metrics(asked: ToMeasure) -> list[Any]:
    """The metrics, with their options; they fit the model."""
    names = default_metrics(asked.model, asked.revision) if asked.metrics is None else asked.metrics
    if not names or len(set(names)) < len(names):
        raise PlanError(f"metrics are {', '.join(names) or 'none'}; accepted: at least one, each once")
    built = [build(name, asked.options.get(name, {})) for name in names]
    check_source(asked.model, asked.revision)
    refuse_kind(built, family_of(asked.model, asked.revision).takes)
    return built


def _check_says(asked: ToMeasure) -> None:
    """Refuse to show answers each token of which would be one more question, at a cost that nobody can foretell."""
    family = family_of(asked.model, asked.revision)
    if asked.show and not family.says:
        raise PlanError(
            f"answers of model {asked.model}, {family.noun}: each token of them would be a question; leave --show out"
        )


def _check_probed(asked: ToMeasure) -> None:
    """Refuse to probe what has no classes, or whose features nobody sees."""
    family = family_of(asked.model, asked.revision)
    if asked.probe and not (family.has_classes and family.has_gradient):
        raise PlanError(
            f"model {asked.model} is {family.noun}: a probe looks for classes in what enters the head of a classifier; "
            "leave --probe out"
        )


def _check_has_parts(asked: ToMeasure) -> None:
    """Refuse to leave out what is not there: the same number twice would be taken for two."""
    folder = Path(asked.model)
    if asked.without_parts and not bears_parts(folder) and not (folder / "adapter_config.json").is_file():
        raise PlanError(f"model {asked.model} has no parts beside its weights; leave --without-parts out")


def _read(asked: ToMeasure, progress: Progress) -> list[Example]:
    """The rows, and word of what was left out."""
    layout = family_of(asked.model, asked.revision).layout(asked.layout)
    rows = read_rows(asked.data, layout, name="data")
    check_used(layout, [rows])
    for note in rows.notes:
        progress("reading data", len(rows.examples), len(rows.examples), note)
    return rows.examples


def _loaded(asked: ToMeasure) -> Loaded:
    """The model, on its device."""
    from palimpsest.models.load import device, load, use_threads

    needs_tokenizer = not asked.layout.token_ids
    how = {"tokenizer_needed": needs_tokenizer, "as_stored": True, "parts": not asked.without_parts}
    loaded = load(asked.model, revision=asked.revision, **how)
    use_threads(loaded.model, asked.threads)
    loaded.model.to(device())
    return loaded


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
