"""``palimpsest federated``: learn in a federation, take a client out of one, and the page of its rounds."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.cli import options as o
from palimpsest.cli.catalogue import eraser_rows
from palimpsest.cli.flags import Flag, HelpAll, command_of
from palimpsest.cli.option_rows import as_text
from palimpsest.cli.saying import tell, tell_json
from palimpsest.cli.screen import run_summary, shown_progress
from palimpsest.in_words import so_many

if TYPE_CHECKING:
    from palimpsest.cli.option_rows import OptionRow
    from palimpsest.federated.erasers import EraserCard
    from palimpsest.federated.federate import Federating
    from palimpsest.federated.going_through import Combining
    from palimpsest.report.schema import RunResult

EraserName = Annotated[str | None, typer.Argument(metavar="NAME", help="Show this one with its options.")]

app = typer.Typer(
    help="Learn without bringing rows together; erase a client.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """Learn on rows that stay where they are, and take a client out again."""


_TEST = Flag("test", o.option(str | None, "Rows nobody learns; measured.", "--test", metavar="DATA"))
_PROBE = Flag("probe", o.option(str | None, "Canaries, or a backdoor; measured.", "--probe", metavar="DATA"))
_THROUGH = Flag(
    "through",
    o.option(str, "here, simulation or processes (Flower).  [here]", "--through", metavar="WAY"),
    default="here",
)
_TIMEOUT = Flag(
    "timeout", o.option(float | None, "Seconds for a client's answer.  [600]", "--timeout", metavar="N"), usual=False
)
_COMBINING = (
    Flag(
        "combine",
        o.option(str, "mean, median, trimmed_mean or krum.  [mean]", "--combine", metavar="HOW"),
        default="mean",
    ),
    Flag("noise", o.option(float | None, "For privacy: z, of the mean's noise.  [none]", "--noise", metavar="N")),
    Flag(
        "clip",
        o.option(float | None, "Largest norm of a change, with --noise.  [1]", "--clip", metavar="N"),
        usual=False,
    ),
    Flag(
        "secret", o.option(bool, "Secure aggregation: the mean alone is seen.", "--secret", metavar=None), default=False
    ),
)
_ROWS = (
    Flag("column", o.Columns),
    Flag("ignore_column", o.IgnoreColumns, usual=False),
    Flag("split", o.Split, usual=False),
    Flag("token_ids", o.IdsOfTokens, default=False, usual=False),
    Flag("threads", o.Threads, usual=False),
    Flag("json", o.Json, default=False),
    Flag("help_all", HelpAll, default=False),
)
_RUN = (
    Flag("model", o.ModelFolder, default=...),
    Flag(
        "client", o.option(list[str], "A client's rows; once for each.", "--client", metavar="NAME=FILE"), default=...
    ),
    Flag("output", o.OutputFolder, default=...),
    _TEST,
    _PROBE,
    Flag("rounds", o.option(int | None, "So many.  [until the loss stops falling]", "--rounds", metavar="N")),
    Flag("learns_for", o.option(str | None, "Learn so that this eraser can.  [fed_avg]", "--for", metavar="ERASER")),
    Flag(
        "method",
        o.option(str, "Of the local work: a learner.  [finetune]", "--method", metavar="NAME"),
        default="finetune",
        usual=False,
    ),
    Flag(
        "scope",
        o.option(str | None, "lora, all or layers.  [lora; classifiers all]", "--scope", metavar="KIND"),
        usual=False,
    ),
    Flag("epochs", o.option(float | None, "Local passes of a round.  [2]", "--epochs", metavar="N"), usual=False),
    Flag(
        "learning_rate",
        o.option(float | None, "Of the local work.  [0.002; see docs]", "--lr", metavar="N"),
        usual=False,
    ),
    Flag("batch_size", o.option(int | None, "Rows of a local step.  [8]", "--batch-size", metavar="N"), usual=False),
    Flag("seed", o.option(int | None, "Of all that is drawn.  [0]", "--seed", metavar="N"), usual=False),
    *_COMBINING,
    _THROUGH,
    _TIMEOUT,
    Flag("assign", o.Sets),
    Flag("rule", o.GivenRules, usual=False),
    Flag("separator", o.Separator, usual=False),
    Flag("revision", o.Revision, usual=False),
    *_ROWS,
)
_ERASE = (
    Flag("folder", Annotated[str, typer.Argument(metavar="DIR", help="Version of a federation.")], default=...),
    Flag(
        "client", o.option(list[str], "Who goes; NAME=FILE: rows that moved.", "--client", metavar="NAME"), default=...
    ),
    Flag("output", o.OutputFolder, default=...),
    Flag(
        "by",
        o.option(str, "See `palimpsest federated erasers`.  [fed_eraser]", "--by", metavar="ERASER"),
        default="fed_eraser",
    ),
    Flag(
        "assign", o.option(list[str] | None, "Of the eraser, e.g. fed_eraser.interval=2.", "--set", metavar="A.B=VALUE")
    ),
    Flag(
        "oracle",
        o.option(bool, "Retrain without that client, too, and compare.", "--oracle", metavar=None),
        default=False,
    ),
    Flag("public", o.option(str | None, "Rows of no client, for erasers that teach.", "--public", metavar="DATA")),
    _TEST,
    _PROBE,
    _THROUGH,
    _TIMEOUT,
    *_ROWS,
)


def _run(values: dict[str, Any]) -> int:
    """``palimpsest federated run``."""
    from palimpsest.federated.federate import federate
    from palimpsest.federated.given_clients import parse_clients

    mine, values["assign"] = _of_erasers(values["assign"] or ())
    sections = _sections(values)
    clients = parse_clients(values["client"])
    how = _how(values)._replace(rounds=values["rounds"], epochs=values["epochs"], learns_for=values["learns_for"])
    how = how._replace(combining=_combining(values), options=_options(mine, values["learns_for"], "--for"))
    with shown_progress(quiet=values["json"]) as progress:
        given: dict[str, Any] = {"method": values["method"], "sections": sections, "sets": _sets(values), "how": how}
        result = federate(values["model"], clients, _manner(values, progress), **given)
    return _shown(result, values)


def _erase(values: dict[str, Any]) -> int:
    """``palimpsest federated erase``."""
    from palimpsest.errors import PlanError
    from palimpsest.federated.federate import erase_client
    from palimpsest.federated.given_clients import parse_clients

    going = [name for name in values["client"] if "=" not in name]
    moved = parse_clients(name for name in values["client"] if "=" in name)
    if len(going) != 1:
        raise PlanError(
            f"{so_many(len(going), 'client')} to go; give --client NAME once (one goes at a time), and NAME=FILE "
            "only for rows that are no longer where they were"
        )
    options = _options(values["assign"] or (), values["by"], "--by")
    how = _how(values)._replace(options=options)
    with shown_progress(quiet=values["json"]) as progress:
        given: dict[str, Any] = {
            "by": values["by"],
            "clients": moved,
            "sets": _sets(values),
            "retrains": values["oracle"],
        }
        result = erase_client(values["folder"], going[0], _manner(values, progress), how=how, **given)
    return _shown(result, values)


def _of_erasers(assignments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of ``--set``: what is said to erasers, and the rest."""
    from palimpsest.federated import erasers

    known = erasers.names()
    given = list(assignments)
    mine = [one for one in given if one.partition(".")[0] in known]
    return mine, [one for one in given if one not in mine]


def _options(assignments: Iterable[str], eraser: str | None, flag: str) -> dict[str, Any]:
    """Options of the eraser that was chosen.

    Raises:
        PlanError: an assignment to another one, or to what is none.
    """
    from palimpsest.errors import PlanError, unknown
    from palimpsest.federated import erasers

    found: dict[str, Any] = {}
    for place, key, value in map(o.parse_assignment, assignments):
        if place != eraser and place in erasers.names():
            raise PlanError(
                f"--set {place}.{key}: not the eraser of this command; give {flag} {place}, or leave it out"
            )
        if place != eraser:
            raise PlanError(f"--set: {unknown('eraser of this command', place, [str(eraser)])}")
        found[key] = value
    return found


def _sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of the plan of the local work."""
    training = {name: values[name] for name in ("learning_rate", "batch_size", "seed")}
    sections = o.sections_from(values["method"], None, values["assign"], training, values["scope"], None)
    if values["rule"]:
        sections["rules"] = [*sections.get("rules", ()), *map(o.parse_rule, values["rule"])]
    if values["separator"] is not None:
        sections["encoding"] = {**sections.get("encoding", {}), "separator": values["separator"]}
    return sections


def _sets(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: values[name] for name in ("test", "probe", "public") if values.get(name) is not None}


def _manner(values: Mapping[str, Any], progress: Any) -> Any:
    from palimpsest.engine.given import Manner

    return Manner(Path(values["output"]), progress, values["threads"])


def _how(values: Mapping[str, Any]) -> Federating:
    from palimpsest.data.read.layout import Layout
    from palimpsest.federated.federate import Federating

    ignored = frozenset(values["ignore_column"] or ())
    columns, revision = o.column_names(values["column"]), values.get("revision")
    layout = Layout(columns, ignored, values["split"], revision, values["token_ids"])
    return Federating(layout=layout, way=values["through"], timeout=values["timeout"])


def _combining(values: Mapping[str, Any]) -> Combining:
    from palimpsest.errors import PlanError
    from palimpsest.federated.going_through import combining_of

    if values["clip"] is not None and values["noise"] is None:
        raise PlanError("--clip bounds the changes that --noise is added to; give --noise, too, or leave --clip out")
    said = {"by": values["combine"], "secret": values["secret"], "noise_multiplier": values["noise"]}
    given = said if values["clip"] is None else {**said, "clipping_norm": values["clip"]}
    return combining_of(given)


def _shown(result: RunResult, values: Mapping[str, Any]) -> int:
    """Print a finished federation or erasure."""
    if values["json"]:
        tell_json(result.model_dump_json(indent=1))
        return 0
    folder = values["output"]
    tell(run_summary(result))
    tell("\n".join(result.notes))
    tell(f"\nmodel   {folder}\nrounds  {folder}/rounds.html\nreport  {folder}/report.html")
    return 0


_ABOUT_RUN = """Have clients learn together: each trains on its own rows, and only changes of weights are exchanged.

Every answer is written down before the next is waited for: the same command goes on where a dead one stopped.
"""
_ABOUT_ERASE = """Take a client out of a federation: a new version, beside the old one, with what may be relied on.

Rows of the others are read where the plan of the version says, or where --client NAME=FILE does.
"""
app.command("run")(command_of(_run, _RUN, _ABOUT_RUN))
app.command("erase")(command_of(_erase, _ERASE, _ABOUT_ERASE))


@app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a federation or an erasure.")],
    json: o.Json = False,
) -> int:
    """Write the page of the rounds anew: loss, bytes, who answered, and what came of it."""
    from palimpsest.federated.rounds_facts import federation_facts_in
    from palimpsest.federated.rounds_page import ROUNDS_PAGE, save_rounds_page
    from palimpsest.models.bound import check_bound
    from palimpsest.report.schema import RunResult

    facts = federation_facts_in(folder)
    check_bound(folder, "run")
    if json:
        tell_json(facts.model_dump_json(indent=1))
        return 0
    save_rounds_page(facts, RunResult.of_run(folder), folder / ROUNDS_PAGE)
    tell(f"page    {folder / ROUNDS_PAGE}")
    return 0


@app.command("erasers")
def erasers_command(name: EraserName = None, json: o.Json = False) -> int:
    """List the ways to take a client out, what may be relied on after each, and their options."""
    from palimpsest.federated.erasers import eraser_cards, known_eraser

    chosen = None if name is None else known_eraser(name)
    cards = [card for card in eraser_cards() if chosen in (None, card.name)]
    rows = {card.name: eraser_rows(card.name) for card in cards}
    if json:
        said = [{**c._asdict(), "options": {row.name: row.values() for row in rows[c.name]}} for c in cards]
        tell_json(json_module.dumps(said, indent=1))
        return 0
    for card in cards:
        tell("\n".join(_of_eraser(card, rows[card.name], whole=name is not None)))
    if name is None:
        tell("\nOptions with what they do: palimpsest federated erasers NAME; given by --set NAME.OPTION=VALUE.")
    return 0


def _of_eraser(card: EraserCard, rows: list[OptionRow], *, whole: bool) -> list[str]:
    """What is said of one eraser, line by line."""
    exact = "exact; run --for it" if card.learns_apart else "exact" if card.exact else ""
    lines = [f"{card.name:20} {exact}".rstrip(), f"  use when {card.use_when}", f"  {card.guarantee}"]
    if rows:
        lines.append(as_text(rows) if whole else f"  options: {', '.join(row.name for row in rows)}")
    return lines
