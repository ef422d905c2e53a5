"""``palimpsest rules``: what may happen around the steps of any run, from the files themselves."""

from __future__ import annotations

import json as json_module
import textwrap
from typing import Annotated, Any

import typer

from palimpsest import rules
from palimpsest.cli import options as o
from palimpsest.cli.option_rows import WIDTH, OptionRow, as_text, option_rows
from palimpsest.cli.saying import tell, tell_json

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
    found = {n: rules.rule_card(n) for n in ([name] if name else rules.names())}
    if json:
        tell_json(json_module.dumps({n: _values(n, card) for n, card in found.items()}, indent=1))
    elif name:
        tell(_whole(name, found[name]))
    else:
        lines = [f"  {n:15} use when {card.use_when}" for n, card in found.items()]
        tell("\n".join([*lines, "", *textwrap.wrap(HOW, WIDTH)]))
    return 0


def rule_rows(name: str) -> list[OptionRow]:
    """The options of a rule."""
    return option_rows(rules.options_of_rule(name), name)


def _whole(name: str, card: rules.RuleCard) -> str:
    said = f"Use when {card.use_when}."
    options = as_text(rule_rows(name)) or "  none"
    place = f"{card.place}: {WHAT_A_PLACE_IS[card.place]}"
    return "\n".join([name, "", *textwrap.wrap(said, WIDTH), "", place, "", card.about, "", "options", options])


def _values(name: str, card: rules.RuleCard) -> dict[str, Any]:
    return {
        "about": card.about,
        "use_when": card.use_when,
        "place": card.place,
        "options": {row.name: row.values() for row in rule_rows(name)},
    }
