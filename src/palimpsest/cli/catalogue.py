"""``palimpsest options``: all that a plan and the three commands that run one take, from the schemas themselves."""

from __future__ import annotations

import json as json_module
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from palimpsest import derived, methods, rules
from palimpsest.cli import options as o
from palimpsest.cli.flags import FLAGS, Flag
from palimpsest.cli.listing import method_rows
from palimpsest.cli.option_rows import WIDTH, OptionRow, as_table, as_text, default_of, option_rows, written
from palimpsest.cli.rules_command import rule_rows
from palimpsest.cli.saying import tell, tell_json
from palimpsest.data.sets.roles import ALL_VERBS
from palimpsest.errors import PlanError, unknown
from palimpsest.federated import erasers
from palimpsest.method_card import KIND_WORDS

if TYPE_CHECKING:
    from pydantic import BaseModel

    from palimpsest.method_card import MethodCard

SectionName = Annotated[str | None, typer.Argument(metavar="SECTION or METHOD", help="Show this one in full.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print docs/options.md.")]

HEAD = (
    "Every option of a run. On the command line: --set SECTION.OPTION=VALUE, e.g. --set training.batch_size=16; in a "
    "file for --plan: SECTION, and below it OPTION: VALUE, as YAML or JSON. Of a method: --set METHOD.OPTION=VALUE, in "
    "a file under options. Of a metric: --set METRIC.OPTION=VALUE, in a file under measuring.options. What is called "
    "None below is written null."
)
OF_GATES = (
    "One line each with --gate: 'forget ma within 0.1 of level', 'forget es <= oracle + 0.1', 'retain es >= 0.9 * "
    "before', 'learn es >= 0.95'. Or, in a file for --plan, a list of rows, each with exactly one of at_most, at_least "
    "and within. --gate takes the place of the gate of the same set and metric and leaves the others; a list takes the "
    "place of all default gates, but the forget set keeps its own unless one is named."
)
GATES = """gates:                            # in the file of --plan; [] asks nothing
  - {set: forget, metric: ma, within: 0.1, relative_to: oracle}
  - {set: retain, metric: es, at_least: 0.9, relative_to: before, mode: ratio}
  - {set: learn, metric: es, at_least: 0.95}
"""
MADE = (
    "The sets that a run makes itself, for a method that needs them. Options: `--set SET.OPTION=VALUE`; those of the "
    "analogous set are the section pairing."
)
BY_SET = {"controls": "controls.SET"}  # section -> how --set calls it: the name of a set stands between
BESIDE = {
    "preset": "paper: the rate and the length that the method's authors published; also --preset paper.",
    "derived": "The options of the sets that a run makes itself: palimpsest options SET.",
    "bounds": "Gates beside the others, each in the place of the one of the same set and metric; also --gate.",
    "diversify": "Forget each row in so many other sentences, too; also --diversify N.",
    "rules": "A list of what happens around the steps of any method; also --rule KIND:A=B. See palimpsest rules.",
    "record": "Histories kept beside the model to delete from it later, e.g. [deltas]; also --record KIND.",
    "options": "The options of the run's method: palimpsest options METHOD.",
}


def command(section: SectionName = None, json: o.Json = False, markdown: Markdown = False) -> int:
    """List all options of a plan, or of one method."""
    if markdown:
        tell(page(), end="")
        return 0
    chosen = plan_sections() if section is None else {section: rows_in(section)}
    if json:
        tell_json(json_module.dumps({n: {r.name: r.values() for r in rows} for n, rows in chosen.items()}, indent=1))
    else:
        tell(_text(chosen, brief=section is None))
    return 0


def plan_sections() -> dict[str, list[OptionRow]]:
    """Section of a plan -> its options; those of methods and metrics are their own."""
    from palimpsest.engine.plan import Plan

    depends = dependences()
    return {
        name: option_rows(
            schema, BY_SET.get(name, name), {row: words for (place, row), words in depends.items() if place == name}
        )
        for name in Plan.model_fields
        if (schema := _schema(name)) is not None
    }


def _schema(section: str) -> type[BaseModel] | None:
    """The schema of a section's options; None where what the plan has there is no section with options of its own."""
    from palimpsest.audit.gates import Gate
    from palimpsest.audit.refinement import Refinement
    from palimpsest.data.sets.controls import Controls
    from palimpsest.engine.plan import SECTIONS, Plan
    from palimpsest.engine.sections import HeadChoice, Restoring

    if section not in SECTIONS or section in BESIDE:
        return None
    others: dict[str, type[BaseModel]] = {
        "controls": Controls,
        "gates": Gate,
        "head": HeadChoice,
        "refine": Refinement,
        "restore": Restoring,
    }
    return others.get(section) or cast("type[BaseModel]", type(Plan.model_fields[section].default))


def rows_in(name: str) -> list[OptionRow]:
    """The options of one section, method or metric.

    Raises:
        PlanError: none has that name.
    """
    from palimpsest import metrics

    known = plan_sections()
    if name in known:
        return known[name]
    if name in methods.names():
        return method_rows(methods.card(name))
    if name in metrics.names():
        return option_rows(metrics.load(name).Config, name)
    if name in derived.names():
        return option_rows(derived.load(name).Config, name)
    if name in rules.names():
        return rule_rows(name)
    if name in erasers.names():
        return eraser_rows(name)
    names = (*known, *methods.names(), *metrics.names(), *derived.names(), *rules.names(), *erasers.names())
    raise PlanError(unknown("section, method, metric, derived set, rule or eraser", name, names))


def eraser_rows(name: str) -> list[OptionRow]:
    """The options of an eraser."""
    return option_rows(erasers.options_of_eraser(name), name)


def dependences() -> dict[tuple[str, str], str]:
    """(section, option) -> when its default is another one, as the code has it."""
    from palimpsest.engine.chosen_control import FIXES_THE_RATE
    from palimpsest.models.families import family_that_takes

    cards = [methods.card(name) for name in methods.names()]
    found = {("training", option): words for option, words in _by_method(cards).items()}
    family = family_that_takes("image")
    images = f"{family.step_rows} for images in a run that finds its own rate"
    rate = found.pop(("training", "learning_rate"))
    scheduler = found.pop(("training", "lr_scheduler_type"))
    return {
        **found,
        ("training", "learning_rate"): f"found by the run unless given{_own_pace(cards)}; with --preset paper {rate}",
        ("training", "lr_scheduler_type"): f"always constant in a run that finds its own rate; else {scheduler}",
        ("training", "batch_size"): images,
        ("training", "num_train_epochs"): "a run that finds its own rate ends by itself; see control.budget",
        ("repair", "rows"): images,
        ("repair", "steps"): "a run that finds its own rate chooses",
        ("measuring", "metrics"): f"of images, and of texts with a label, {written(family.metrics)}",
        ("control", "kind"): f"none beside {', '.join(FIXES_THE_RATE)}, refine or preset, and for edits",
    }


def _own_pace(cards: list[MethodCard]) -> str:
    """The methods that find no rate unless they are told to."""
    from palimpsest.loop.training import Training

    usual = Training.model_fields["learning_rate"].default
    rates = {card.name: card.defaults.get("learning_rate", usual) for card in cards if card.own_schedule}
    own = ", ".join(f"{written(rate)} of {name}" for name, rate in rates.items())
    return f" (but {own}, unless control.kind = auto)" if own else ""


def _by_method(cards: list[MethodCard]) -> dict[str, str]:
    """Training option -> the other defaults that methods have for it, each with its methods."""
    from palimpsest.loop.training import Training

    found: dict[str, dict[str, list[str]]] = {}
    for card in cards:
        for option, value in card.defaults.items():
            if written(value) != default_of(Training.model_fields[option]):
                found.setdefault(option, {}).setdefault(written(value), []).append(card.name)
    return {
        option: "; ".join(f"{value} for {', '.join(names)}" for value, names in values.items())
        for option, values in found.items()
    }


def _text(chosen: Mapping[str, list[OptionRow]], *, brief: bool) -> str:
    parts = []
    for name, rows in chosen.items():
        said = _about(name)
        head = [name, *textwrap.wrap(said, WIDTH)]
        parts.append("\n".join([*head, "", as_text(rows, brief=brief) or "  no options"]))
        if name == "gates":
            parts.append(GATES.rstrip())
    if brief:
        parts = [textwrap.fill(HEAD, WIDTH), *parts, *(f"{name}\n{about}" for name, about in BESIDE.items())]
    return "\n\n".join(parts)


def _about(name: str) -> str:
    """What a section is for."""
    from palimpsest.engine.plan import Plan

    field = Plan.model_fields.get(name)
    words = " ".join(((field.description if field else "") or "").split())
    if name in derived.names():
        words = f"{_made_of(name)}: {derived.load(name).about}. For a method that needs the set {name}."
    return f"{words} {OF_GATES}" if name == "gates" else words


def _made_of(name: str) -> str:
    """What a derived set is made of, and for which kinds of models."""
    kinds = " and ".join(KIND_WORDS[kind] for kind in derived.load(name).modalities)
    return f"Made of {' and '.join(derived.load(name).sources) or 'what the model says'}, {kinds}"


def page() -> str:
    """docs/options.md."""
    parts = [
        "# Options",
        "Made by `palimpsest options --markdown`; a test holds that it is what the schemas say.",
        HEAD,
        "## Flags of learn, unlearn and update",
        as_table(("flag", "of", "help", "default", "what"), [_flag_row(flag) for flag in FLAGS]),
        "`--help` shows the usual ones, `--help-all` all.",
    ]
    for name, rows in plan_sections().items():
        parts += [f"## {name}", _about(name), _option_table(rows)]
        parts += [f"```yaml\n{GATES}```"] if name == "gates" else []
    parts += ["## preset", BESIDE["preset"], "## options", "Of the run's method: `--set METHOD.OPTION=VALUE`."]
    for name in methods.names():
        rows = method_rows(methods.card(name))
        parts += [f"### {name}", _option_table(rows) if rows else "None."]
    parts += ["## measuring.options", "Of the metrics: `--set METRIC.OPTION=VALUE`.", _option_table(_metric_rows())]
    parts += ["## derived", MADE, _set_table(), *([_option_table(_made_rows())] if _made_rows() else [])]
    parts += ["## diversify", BESIDE["diversify"], "## record", BESIDE["record"], "## rules", BESIDE["rules"]]
    for name in rules.names():
        parts += [f"### {name}", f"Use when {rules.rule_card(name).use_when}.", _option_table(rule_rows(name))]
    parts += ["## Erasers", "Of `palimpsest federated erase --by ERASER`: `--set ERASER.OPTION=VALUE`."]
    for name in erasers.names():
        parts += [f"### {name}", _option_table(eraser_rows(name))] if eraser_rows(name) else []
    return "\n\n".join(parts) + "\n"


def _set_table() -> str:
    found = {name: derived.load(name) for name in derived.names()}
    rows = [
        (f"`{name}`", ", ".join(made.sources) or "the model", ", ".join(made.modalities), made.about)
        for name, made in found.items()
    ]
    return as_table(("set", "made of", "models", "what"), rows)


def _metric_rows() -> list[OptionRow]:
    from palimpsest import metrics

    return [row for name in metrics.names() for row in option_rows(metrics.load(name).Config, name)]


def _made_rows() -> list[OptionRow]:
    own = [name for name in derived.names() if name != "analogous"]  # that one has the section pairing
    return [row for name in own for row in option_rows(derived.load(name).Config, name)]


def _option_table(rows: list[OptionRow]) -> str:
    told: Callable[[OptionRow], str] = lambda row: f"{row.default}; {row.depends}" if row.depends else row.default  # noqa: E731
    return as_table(
        ("option", "default", "accepts", "what"), [(f"`{r.path}`", told(r), r.accepts, r.about) for r in rows]
    )


def _flag_row(flag: Flag) -> tuple[str, ...]:
    option: Any = flag.annotation.__metadata__[0]
    shown = "--help" if flag.usual else "--help-all"
    what, _, default = (option.help or "").partition("  [")
    usual = default.removesuffix("]") or ("required" if flag.default is ... else "")
    verbs = "all" if flag.verbs == ALL_VERBS else ", ".join(flag.verbs)
    return _spelled(flag.name, option), verbs, shown, usual, what


def _spelled(name: str, option: Any) -> str:
    """All names of an option, and what it takes."""
    given = [word for word in (option.default, *(option.param_decls or ())) if isinstance(word, str)]
    names = given or [f"--{name.replace('_', '-')}"]  # typer keeps the first name where a default would be
    return ", ".join(f"`{word}`" for word in names) + (f" {option.metavar}" if option.metavar else "")
