"""``palimpsest learn``."""

from __future__ import annotations

from typing import Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.screen import show_result, shown_progress


def command(
    model: o.Model,
    data: Annotated[
        str, typer.Option("--data", help="What to learn: JSONL, CSV, Parquet, .npz, image folder or Hub name.")
    ],
    output: o.OutputFolder,
    method: Annotated[str, typer.Option(help="A learning method; see `palimpsest methods`.")] = "finetune",
    retain: Annotated[str | None, typer.Option(help="A memory of what was learned before.")] = None,
    replay: o.Replay = None,
    holdout: o.Holdout = None,
    general: o.General = None,
    revision: o.Revision = None,
    seed: o.Seed = None,
    preset: o.Preset = None,
    learning_rate: o.LearningRate = None,
    epochs: o.Epochs = None,
    max_steps: o.MaxSteps = None,
    batch_size: o.BatchSize = None,
    scope: o.ScopeKind = None,
    plan: o.PlanFile = None,
    assign: o.Sets = None,
    threads: o.Threads = None,
    report_to: o.ReportTo = None,
    ignore_column: o.IgnoreColumns = None,
    json: o.Json = False,
) -> int:
    """Teach a model new examples. The same command again goes on where a dead one stopped."""
    training = {
        "seed": seed,
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
    }
    sections = o.sections(method, plan, assign, training, scope, preset)
    from palimpsest.verbs import learn

    with shown_progress(quiet=json) as progress:
        result = learn(
            model,
            data,
            output=output,
            method=method,
            retain=retain,
            replay=replay,
            holdout=holdout,
            general=general,
            revision=revision,
            plan=sections,
            progress=progress,
            threads=threads,
            report_to=report_to or (),
            ignore_columns=ignore_column or (),
        )
    return show_result(result, str(output), as_json=json)
