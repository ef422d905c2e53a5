"""``palimpsest measure``."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.audit.words import interval as ends
from palimpsest.audit.words import show as written
from palimpsest.cli import options as o
from palimpsest.cli.screen import shown_progress

if TYPE_CHECKING:
    from palimpsest.metrics.evaluate import Evaluation


def command(
    model: o.Model,
    data: Annotated[str, typer.Option("--data", help="Examples: JSONL, CSV, Parquet, .npz, image folder or Hub name.")],
    metrics: Annotated[
        str | None,
        typer.Option(help="Names, separated by commas; see `palimpsest metrics`.  [ma,el,es; of images accuracy,prob]"),
    ] = None,
    assign: o.Sets = None,
    token_ids: Annotated[bool, typer.Option("--token-ids", help='Rows are {"id", "input_ids"}.')] = False,
    max_length: Annotated[int | None, typer.Option(min=2, help="Longest example in tokens.  [the model's]")] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut longer examples instead of refusing.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per forward pass; changes no value.")] = 32,
    revision: o.Revision = None,
    threads: o.Threads = None,
    ignore_column: o.IgnoreColumns = None,
    json: o.Json = False,
) -> int:
    """Measure what a model knows of the examples in a file."""
    from palimpsest.verbs import measure
    from palimpsest.verbs.measure import default_metrics
    from palimpsest.verbs.plan import Encoding

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
            encoding=Encoding(max_length=max_length, truncate=truncate),
            batch_size=batch_size,
            progress=progress,
            threads=threads,
            ignore_columns=ignore_column or (),
        )
    print(json_module.dumps(as_json(evaluation), indent=1) if json else _as_text(evaluation))
    return 0


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """``{"metrics", "examples", "cost"}``; per-example values are null where an example cannot be scored."""
    ids = next(iter(evaluation.scores.values())).by_id if evaluation.scores else {}
    return {
        "metrics": {key: _summary(score) for key, score in evaluation.scores.items()},
        "examples": [{"id": i, **{k: s.by_id[i] for k, s in evaluation.scores.items()}} for i in ids],
        "cost": asdict(evaluation.cost),
    }


def _summary(score: Any) -> dict[str, Any]:
    names = ("value", "low", "high", "n", "unscored", "direction", "unit", "version")
    return {name: getattr(score, name) for name in names}


def _as_text(evaluation: Evaluation) -> str:
    lines = []
    for key, score in evaluation.scores.items():
        value = "unscored" if score.value is None else written(score.value)
        interval = ends(score.low, score.high)
        lines.append(f"{key:10} {value}{interval}  n={score.n}  {score.unit}; {score.direction}")
    cost = evaluation.cost
    images = any("image" in score.unit for score in evaluation.scores.values())
    passed = "images" if images else "token positions"
    lines.append(f"{written(cost.seconds)} s, {cost.tokens} {passed}, peak {cost.peak_bytes / 2**20:.0f} MiB")
    return "\n".join(lines)
