"""``palimpsest measure``."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.cli import options as o
from palimpsest.cli.screen import shown_progress, tell
from palimpsest.in_words import interval as ends
from palimpsest.in_words import show as written

if TYPE_CHECKING:
    from palimpsest.metrics.evaluate import Evaluation
    from palimpsest.records import Answer


def command(
    model: o.Model,
    data: Annotated[str, typer.Option("--data", metavar="DATA", help="Rows or images: file, folder or Hub name.")],
    metrics: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="E.g. ma,es; see `palimpsest metrics`.  [ma,el,es; images accuracy,prob]"),
    ] = None,
    assign: o.Sets = None,
    token_ids: Annotated[bool, typer.Option("--token-ids", help='Rows are {"id", "input_ids"}.')] = False,
    max_length: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Longest row in tokens.  [the model's]")
    ] = None,
    separator: o.Separator = None,
    truncate: o.Truncate = False,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="N", show_default=False, help="Rows per forward pass; changes no value.  [32]")
    ] = 32,
    revision: o.Revision = None,
    threads: o.Threads = None,
    show: Annotated[
        int, typer.Option(min=0, metavar="N", show_default=False, help="N answers, the most known row's first.  [0]")
    ] = 0,
    column: o.Columns = None,
    ignore_column: o.IgnoreColumns = None,
    split: o.Split = None,
    json: o.Json = False,
) -> int:
    """Measure what a model knows of the examples in a file."""
    from palimpsest.engine.sections import Encoding
    from palimpsest.verbs import measure
    from palimpsest.verbs.measure import default_metrics

    given = default_metrics(model, revision) if metrics is None else metrics.split(",")
    chosen = [name.strip() for name in given if name.strip()]
    options = o.metric_options(assign, chosen)
    with shown_progress(quiet=json) as progress:
        evaluation = measure(
            model,
            data,
            metrics=chosen,
            options=options,
            token_ids=token_ids,
            revision=revision,
            encoding=Encoding(max_length=max_length, truncate=truncate, separator=separator),
            batch_size=batch_size,
            progress=progress,
            threads=threads,
            columns=o.column_names(column),
            ignore_columns=ignore_column or (),
            split=split,
            show=show,
        )
    if json:
        print(json_module.dumps(as_json(evaluation), indent=1))
    else:
        tell(_as_text(evaluation))
    return 0


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """``{"metrics", "examples", "cost"}``; per-example values are null where an example cannot be scored.

    With ``--show`` also "answers": what was asked, what was expected, what the model says, and the example's scores.
    """
    ids = next(iter(evaluation.scores.values())).by_id if evaluation.scores else {}
    found: dict[str, Any] = {
        "metrics": {key: _summary(score) for key, score in evaluation.scores.items()},
        "examples": [{"id": i, **_values(evaluation, i)} for i in ids],
        "cost": asdict(evaluation.cost),
    }
    if evaluation.answers:
        found["answers"] = [_answer(evaluation, answer) for answer in evaluation.answers]
    return found


def _values(evaluation: Evaluation, example_id: str) -> dict[str, float | None]:
    return {key: score.by_id[example_id] for key, score in evaluation.scores.items()}


def _answer(evaluation: Evaluation, answer: Answer) -> dict[str, Any]:
    fields = {name: getattr(answer, name) for name in ("id", "place", "subject", "prompt", "expected")}
    return {**fields, "said": next(iter(answer.said.values())), "scores": _values(evaluation, answer.id)}


def _summary(score: Any) -> dict[str, Any]:
    names = ("value", "low", "high", "n", "unscored", "direction", "unit", "version")
    return {name: getattr(score, name) for name in names} | ({"why": score.why} if score.why else {})


def _as_text(evaluation: Evaluation) -> str:
    from palimpsest.report.said import examples_text
    from palimpsest.report.schema import AnswerRow

    lines = []
    for key, score in evaluation.scores.items():
        value = f"unscored{score.why and f', {score.why}'}" if score.value is None else written(score.value)
        interval = ends(score.low, score.high)
        lines.append(f"{key:10} {value}{interval}  n={score.n}  {score.unit}; {score.direction}")
    cost = evaluation.cost
    images = any("image" in score.unit for score in evaluation.scores.values())
    passed = "images" if images else "token positions"
    lines.append(f"{written(cost.seconds)} s, {cost.tokens} {passed}, peak {cost.peak_bytes / 2**20:.0f} MiB")
    names = {answer.id: answer.place or answer.id for answer in evaluation.answers}
    rows = [AnswerRow.of(answer).model_copy(update={"id": names[answer.id]}) for answer in evaluation.answers]
    lines += examples_text(rows, {name: _values(evaluation, key) for key, name in names.items()})
    return "\n".join(lines)
