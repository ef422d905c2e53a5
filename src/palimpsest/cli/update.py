"""``palimpsest update``."""

from __future__ import annotations

from typing import Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.screen import show_result, shown_progress


def command(
    model: o.Model,
    output: o.OutputFolder,
    learn: Annotated[
        str | None, typer.Option(help="What is new: JSONL, CSV, Parquet, .npz, image folder or Hub name.")
    ] = None,
    forget: Annotated[str | None, typer.Option(help="What must go.")] = None,
    retain: Annotated[str | None, typer.Option(help="What must stay, or a memory of it.")] = None,
    method: Annotated[str, typer.Option(help="See `palimpsest methods`.")] = "ug_clu",
    holdout: o.Holdout = None,
    general: o.General = None,
    oracle: o.Oracle = None,
    make_oracle: o.MakeOracle = False,
    base: o.Base = None,
    replay: o.Replay = None,
    revision: o.Revision = None,
    refine: Annotated[
        bool | None, typer.Option("--refine/--no-refine", help="At a fixed rate: stop when every example passes.")
    ] = None,
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
    """Learn and unlearn in one run. The same command again goes on where a dead one stopped."""
    training = {
        "seed": seed,
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
    }
    sections = o.sections(method, plan, assign, training, scope, preset)
    from palimpsest.verbs import update

    with shown_progress(quiet=json) as progress:
        result = update(
            model,
            learn=learn,
            forget=forget,
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
