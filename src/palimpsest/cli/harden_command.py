"""``palimpsest harden``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from palimpsest.cli import options as o
from palimpsest.cli.flags import Flag, command_of
from palimpsest.cli.screen import show_result, shown_progress

_FLAGS = (
    Flag("model", Annotated[str, typer.Argument(metavar="MODEL", help="The model that forgot.")], default=...),
    Flag("alpha", o.option(float, "Share of noise, 0 to 1; 0.6 is a beginning."), default=...),
    Flag("retain", o.option(str, "What must stay, and is taught again.", "--retain", metavar="DATA"), default=...),
    Flag("output", o.OutputFolder, default=...),
    Flag("forget", o.option(str | None, "What was forgotten: measured, not taught.", "--forget", metavar="DATA")),
    Flag("replay", o.option(str | None, "General rows, taught beside retain.", "--replay", metavar="DATA")),
    Flag(
        "general",
        o.option(str | None, "General text, taught beside retain; and its perplexity.", "--general", metavar="DATA"),
    ),
    Flag("beta", o.option(float, "Size of the noise; 1 = fresh weights.  [0.1]"), default=0.1),
    Flag("epochs", o.option(float, "Passes over retain at most.  [40]"), default=40.0),
    Flag("learning_rate", o.option(float | None, "Of AdamW.  [by the size of the weights]", "--lr")),
    Flag("batch_size", o.option(int, "Rows of each set per step.  [8]"), default=8),
    Flag("seed", o.option(int, "Of noise and order.  [0]"), default=0),
    Flag("token_ids", o.IdsOfTokens, default=False),
    Flag("json", o.Json, default=False),
    Flag("separator", o.Separator),
    Flag("column", o.Columns),
    Flag("ignore_column", o.IgnoreColumns),
    Flag("revision", o.Revision),
    Flag("split", o.Split),
    Flag("threads", o.Threads),
)
_OTHERWISE = ("separator", "column", "ignore_column", "json")


def _run(values: dict[str, Any]) -> int:
    from palimpsest import verbs
    from palimpsest.engine.sections import Encoding

    with shown_progress(quiet=values["json"]) as progress:
        result = verbs.harden(
            **{name: value for name, value in values.items() if name not in _OTHERWISE},
            encoding=Encoding(separator=values["separator"]),
            columns=o.column_names(values["column"]),
            ignore_columns=values["ignore_column"] or (),
            progress=progress,
        )
    return show_result(result, str(values["output"]), as_json=values["json"])


command = command_of(_run, _FLAGS, "Make what was forgotten hard to bring back: noise, then distillation (UNDO).")
