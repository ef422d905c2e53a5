"""``palimpsest calibrate``."""

from __future__ import annotations

from typing import Any

from palimpsest.cli import options as o
from palimpsest.cli.flags import Flag, command_of
from palimpsest.cli.screen import show_result, shown_progress

_FLAGS = (
    Flag("before", o.option(str, "The model before the change.", "--before", metavar="DIR"), default=...),
    Flag("after", o.option(str, "What was made of it, by any method.", "--after", metavar="DIR"), default=...),
    Flag(
        "retain", o.option(str, "What must stay; best rows never trained on.", "--retain", metavar="DATA"), default=...
    ),
    Flag("output", o.OutputFolder, default=...),
    Flag("forget", o.option(str | None, "What was to go: tells what it costs.", metavar="DATA")),
    Flag("metric", o.option(str | None, "What is kept of retain.  [es; images accuracy]", metavar="NAME")),
    Flag("tau", o.option(float, "Share of its value before.  [0.95]"), default=0.95),
    Flag("tolerance", o.option(float, "The share found, this exact.  [1/64]"), default=1 / 64),
    Flag("rows", o.option(int, "At most so many rows of a set.  [400]"), default=400),
    Flag("seed", o.option(int, "Draws them.  [0]"), default=0),
    Flag("assign", o.Sets),
    Flag("token_ids", o.IdsOfTokens, default=False),
    Flag("max_length", o.option(int | None, "Longest row in tokens.  [the model's]")),
    Flag("separator", o.Separator),
    Flag("truncate", o.Truncate, default=False),
    Flag("revision", o.Revision),
    Flag("threads", o.Threads),
    Flag("column", o.Columns),
    Flag("ignore_column", o.IgnoreColumns),
    Flag("split", o.Split),
    Flag("json", o.Json, default=False),
)
_AS_ITS_OWN = ("before", "after", "retain", "output", "forget", "metric", "tau", "tolerance", "seed", "token_ids",
               "revision", "threads", "split")  # fmt: skip


def _run(values: dict[str, Any]) -> int:
    from palimpsest import verbs
    from palimpsest.engine.sections import Encoding

    options = o.metric_options(values["assign"], [values["metric"] or "es"])
    with shown_progress(quiet=values["json"]) as progress:
        result = verbs.calibrate(
            **{name: values[name] for name in _AS_ITS_OWN},
            limit=values["rows"],
            options=next(iter(options.values()), {}),
            encoding=Encoding(**{name: values[name] for name in ("max_length", "truncate", "separator")}),
            columns=o.column_names(values["column"]),
            ignore_columns=values["ignore_column"] or (),
            progress=progress,
        )
    return show_result(result, str(values["output"]), as_json=values["json"])


command = command_of(_run, _FLAGS, "Keep as much of a change as leaves a share of what must stay: a model between two.")
