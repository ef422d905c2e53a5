"""``palimpsest unlearn``."""

from __future__ import annotations

from typing import Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.screen import show_result, shown_progress


def command(
    model: o.Model,
    forget: Annotated[
        str, typer.Option("--forget", help="What must go: JSONL, CSV, Parquet, .npz, image folder or Hub name.")
    ],
    output: o.OutputFolder,
    retain: Annotated[str | None, typer.Option(help="What must stay.")] = None,
    method: Annotated[
        str | None, typer.Option(help="See `palimpsest methods`.  [icu; of an image classifier salun]")
    ] = None,
    holdout: o.Holdout = None,
    general: o.General = None,
    oracle: o.Oracle = None,
    make_oracle: o.MakeOracle = False,
    base: o.Base = None,
    replay: o.Replay = None,
    revision: o.Revision = None,
    refine: o.Refine = None,
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
    """Make a model forget examples. The same command again goes on where a dead one stopped."""
    training = {
        "seed": seed,
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
    }
    from palimpsest.verbs.usual import usual_method

    method = usual_method(model, revision) if method is None else method
    sections = o.sections(method, plan, assign, training, scope, preset)
    from palimpsest.verbs import unlearn

    with shown_progress(quiet=json) as progress:
        result = unlearn(
            model,
            forget,
            output=output,
            method=method,
            retain=retain,
            holdout=holdout,
            general=general,
            replay=replay,
            base=base,
            oracle=oracle,
            make_oracle=make_oracle,
            revision=revision,
            refine=refine,
            plan=sections,
            progress=progress,
            threads=threads,
            report_to=report_to or (),
            ignore_columns=ignore_column or (),
        )
    return show_result(result, str(output), as_json=json)
