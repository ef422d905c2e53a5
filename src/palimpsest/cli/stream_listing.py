"""``palimpsest bench streams``: the scenarios and their options, from their own files. No torch."""

from __future__ import annotations

import json as json_module
import textwrap
from typing import Annotated

import typer

from palimpsest.cli import options as o
from palimpsest.cli.option_rows import WIDTH, OptionRow, as_table, as_text, option_rows
from palimpsest.cli.saying import tell, tell_json
from palimpsest.data.streams import scenarios

ScenarioName = Annotated[str | None, typer.Argument(help="Show this one.")]
_Markdown = Annotated[bool, typer.Option("--markdown", help="Print the tables of docs/bench.md.")]
OF_A_FILE = "anything else, written by `RequestStream.to_json`"


def command(name: ScenarioName = None, json: o.Json = False, markdown: _Markdown = False) -> int:
    """List the scenarios of streams with their options."""
    if markdown:
        tell(stream_tables())
        return 0
    chosen = scenarios.names() if name is None else (name,)
    if json:
        tell_json(json_module.dumps({n: _values(n) for n in chosen}, indent=1))
    else:
        tell("\n\n".join(_shown(n) for n in chosen) + ("" if name else f"\n\n{_of_all()}"))
    return 0


def _values(name: str) -> dict[str, object]:
    options = {row.name: row.values() for row in _rows(name)}
    return {"about": scenarios.load(name).about, "options": options}


def _shown(name: str) -> str:
    about = textwrap.wrap(scenarios.load(name).about, WIDTH - 16)
    head = [f"{word:16}{line}" for word, line in zip((name, *[""] * len(about)), about, strict=False)]
    return "\n".join([*head, *filter(None, [as_text(_rows(name))])])


def _of_all() -> str:
    return f"of every stream\n{as_text(_common())}"


def _rows(name: str) -> list[OptionRow]:
    return option_rows(scenarios.load(name).Config, "stream")


def _common() -> list[OptionRow]:
    from palimpsest.bench.define.config import StreamChoice

    return option_rows(StreamChoice, "stream")


def stream_tables() -> str:
    """The tables of docs/bench.md: what the scenarios do, and all options of a stream."""
    from palimpsest.bench.define.pool import SAVED_STREAM

    kinds = [(f"`{name}`", scenarios.load(name).about) for name in scenarios.names()]
    options = [("every", row) for row in _common()]
    options += [(f"`{name}`", row) for name in scenarios.names() for row in _rows(name)]
    return "\n\n".join(
        [
            as_table(("`stream.kind`", "requests"), [*kinds, (f"`{SAVED_STREAM}`", OF_A_FILE)]),
            as_table(
                ("option", "of", "default", "accepts", "what"),
                [(f"`{row.path}`", kind, row.default, row.accepts, row.about) for kind, row in options],
            ),
        ]
    )
