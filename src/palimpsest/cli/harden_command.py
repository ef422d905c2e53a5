"""``palimpsest harden``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from palimpsest.cli import options as o
from palimpsest.cli.flags import Flag, command_of
from palimpsest.cli.screen import show_result, shown_progress


def _rows(about: str, name: str, kind: Any = str | None) -> Any:
    return Annotated[kind, typer.Option(name, metavar="DATA", help=about)]


def _amount(kind: Any, about: str, *names: str) -> Any:
    return Annotated[kind, typer.Option(*names, metavar="N", show_default=False, help=about)]


_FLAGS = (
    Flag("model", Annotated[str, typer.Argument(metavar="MODEL", help="The model that forgot.")], default=...),
    Flag("alpha", _amount(float, "Share of noise, 0 to 1; 0.6 is a beginning."), default=...),
    Flag("retain", _rows("What must stay, and is taught again.", "--retain", str), default=...),
    Flag("output", o.OutputFolder, default=...),
    Flag("forget", _rows("What was forgotten: measured, not taught.", "--forget")),
    Flag("replay", _rows("General rows, taught beside retain.", "--replay")),
    Flag("general", _rows("General text, taught beside retain; and its perplexity.", "--general")),
    Flag("beta", _amount(float, "Size of the noise; 1 = fresh weights.  [0.1]"), default=0.1),
    Flag("epochs", _amount(float, "Passes over retain at most.  [40]"), default=40.0),
    Flag("learning_rate", _amount(float | None, "Of AdamW.  [by the size of the weights]", "--lr")),
    Flag("batch_size", _amount(int, "Rows of each set per step.  [8]"), default=8),
    Flag("seed", _amount(int, "Of noise and order.  [0]"), default=0),
    Flag(
        "token_ids", Annotated[bool, typer.Option("--token-ids", help='Rows are {"id", "input_ids"}.')], default=False
    ),
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
