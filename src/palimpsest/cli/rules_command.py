"""``palimpsest rules``: what may happen around the steps of any run, from the files themselves."""

from __future__ import annotations

import json as json_module
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest import rules
from palimpsest.cli import options as o
from palimpsest.cli.option_rows import WIDTH, OptionRow, as_text, option_rows
from palimpsest.cli.saying import tell, tell_json

if TYPE_CHECKING:
    from palimpsest.rules.rule import Rule

HOW = (
    "A run of any method is given one by --rule KIND:OPTION=VALUE,... (may repeat), by --set 'rules=[{kind: partial, "
    "keep: 0.1}]', or as the list rules of a plan. More on one of them: palimpsest rules NAME"
)
WHAT_A_PLACE_IS = {
    "moves": "it changes gradients or weights",
    "holds": "what it does not choose stays bit-identical, whatever the optimizer and other rules do",
    "watches": "it looks at the weights that a step comes to",
}

RuleName = Annotated[str | None, typer.Argument(help="Show this one with its options.")]


def command(name: RuleName = None, json: o.Json = False) -> int:
    """List the rules that any run may have around its steps, or show one."""
    found = {n: rules.load(n) for n in ([name] if name else rules.names())}
    if json:
        tell_json(json_module.dumps({n: _values(n, rule) for n, rule in found.items()}, indent=1))
    elif name:
        tell(_whole(name, found[name]))
    else:
        lines = [f"  {n:15} use when {rule.use_when}" for n, rule in found.items()]
        tell("\n".join([*lines, "", *textwrap.wrap(HOW, WIDTH)]))
    return 0


def rule_rows(name: str) -> list[OptionRow]:
    """The options of a rule."""
    return option_rows(rules.load(name).Config, name)


def _whole(name: str, rule: type[Rule]) -> str:
    said = f"Use when {rule.use_when}."
    options = as_text(rule_rows(name)) or "  none"
    place = f"{rule.place}: {WHAT_A_PLACE_IS[rule.place]}"
    return "\n".join([name, "", *textwrap.wrap(said, WIDTH), "", place, "", _about(rule), "", "options", options])


def _about(rule: type[Rule]) -> str:
    import sys

    return (sys.modules[rule.__module__].__doc__ or "").strip()


def _values(name: str, rule: type[Rule]) -> dict[str, Any]:
    return {
        "about": _about(rule),
        "use_when": rule.use_when,
        "place": rule.place,
        "options": {row.name: row.values() for row in rule_rows(name)},
    }
