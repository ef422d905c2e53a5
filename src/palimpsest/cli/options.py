"""Options that several verbs share, and how ``--set`` finds its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest import derived, methods, metrics
from palimpsest.errors import PlanError, unknown
from palimpsest.loop.aliases import meant_section
from palimpsest.printed import short
from palimpsest.untrusted import parse_yaml, reason_of

ROUTED = ("training", "control", "repair", "restore", "head", "scope", "pairing", "refine", "measuring", "encoding")


def _with_breaks(text: str) -> str:
    r"""A text as meant where a shell's quotes leave a backslash and a letter of it.

    >>> _with_breaks(r"\n"), _with_breaks(" ")
    ('\n', ' ')
    """
    return text.replace(r"\n", "\n").replace(r"\t", "\t")


ModelFolder = Annotated[str, typer.Option("--model", metavar="DIR", help="Folder, Hub name or resnet20@DIR.")]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="New folder for model and report.")]
Revision = Annotated[str | None, typer.Option(metavar="COMMIT", help="Commit of a Hub name.")]
MakeOracle = Annotated[bool, typer.Option("--make-oracle", help="Retrain one from --base on --retain; kept.")]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", "--lr", metavar="N", help="A fixed rate.  [searched]")
]
Refine = Annotated[bool | None, typer.Option("--refine/--no-refine", help="At a fixed rate: stop when all rows pass.")]
RestoreShare = Annotated[
    float | None, typer.Option("--restore", metavar="N", help="Give utility back to this share of before.")
]
Truncate = Annotated[bool, typer.Option("--truncate", help="Cut longer rows instead of refusing.")]
Separator = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        parser=_with_breaks,
        help=r"Between prompt and completion, ' ' or '\n'.  [as taught]",
    ),
]
PlanFile = Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="YAML or JSON with options.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Any option; see `palimpsest options`.")
]
GivenRules = Annotated[
    list[str] | None, typer.Option("--rule", metavar="KIND:A=B", help="Around the steps; see `palimpsest rules`.")
]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, metavar="N", help="CPU threads.  [1 for a small model]")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="OURS=YOURS", help="E.g. prompt=question; of one set paraphrase.prompt=NAME."),
]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Of dataset folders and Hub names, e.g. train.")]
IgnoreColumns = Annotated[
    list[str] | None, typer.Option("--ignore-column", metavar="NAME", help="A column to leave out.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
IdsOfTokens = Annotated[bool, typer.Option("--token-ids", help='Rows are {"id", "input_ids"}.')]


def option(kind: Any, about: str, *names: str, metavar: str | None = "N", least: int | None = None) -> Any:
    """An option of one command, whose help says the default itself.

    Args:
        kind: of its value.
        about: what the help says.
        names: as they are typed; none = that of its parameter.
        metavar: stands for the value in the help; None of a flag that takes none.
        least: value that is accepted.
    """
    return Annotated[kind, typer.Option(*names, metavar=metavar, min=least, show_default=False, help=about)]


def column_names(assignments: Iterable[str] | None) -> dict[str, str]:
    """Our name -> the file's, from ``--column``.

    Raises:
        DataError: no NAME=YOURS, or a name twice.
    """
    if not assignments:
        return {}
    from palimpsest.data.read.layout import parse_columns

    return dict(parse_columns(assignments))


def sections_from(
    method: str,
    plan_file: Path | None,
    assignments: Iterable[str] | None,
    training: Mapping[str, Any],
    scope: str | None,
    preset: str | None,
) -> dict[str, Any]:
    """Sections of a plan: the file's, overridden by ``--set``, overridden by named options.

    Args:
        method: its name is a section for its own options.
        plan_file: of ``--plan``.
        assignments: of ``--set``.
        training: named training options, None where not given.
        scope: of ``--scope``.
        preset: of ``--preset``.

    Raises:
        PlanError: an assignment that is not ``a.b=value``, or whose ``a`` does not exist.
    """
    found: dict[str, Any] = {}
    if plan_file is not None:
        from palimpsest.engine.plan import read_plan_file

        found = read_plan_file(plan_file)
    for assignment in assignments or ():
        _assign(found, method, assignment)
    given = {key: value for key, value in training.items() if value is not None}
    if given:
        found["training"] = {**found.get("training", {}), **given}
    if preset is not None:
        found["preset"] = preset
    if scope is not None:
        found["scope"] = {**found.get("scope", {}), "kind": scope}
    return found


def _assign(found: dict[str, Any], method: str, assignment: str) -> None:
    """One ``--set`` in its section."""
    if assignment.startswith("rules="):
        found["rules"] = _value_of(assignment, assignment.removeprefix("rules="))
        return
    place, key, value = parse_assignment(assignment)
    if place == "controls":
        _control(found, key, value)
    else:
        _section(found, method, place, key)[key] = value


def parse_assignment(assignment: str) -> tuple[str, str, Any]:
    """Section, option and value of ``a.b=value``; the value is read as YAML.

    >>> parse_assignment("icu.alpha=0.3")
    ('icu', 'alpha', 0.3)
    """
    path, equals, raw = assignment.partition("=")
    place, dot, key = path.partition(".")
    if not (equals and dot and place and key):
        raise PlanError(f"--set {short(assignment)}: accepted: a.b=value, e.g. icu.alpha=0.3")
    return place, key, _value_of(assignment, raw)


def _value_of(assignment: str, raw: str) -> Any:
    try:
        return parse_yaml(raw)
    except ValueError as error:
        raise PlanError(
            f"--set {short(assignment)}: the value is no YAML ({reason_of(error)}); quote it if it holds a colon or "
            "bracket"
        ) from None


def parse_rule(text: str) -> dict[str, Any]:
    """A rule of a plan from ``kind:option=value,option=value``; each value is read as YAML.

    >>> parse_rule("partial:keep=0.2,rule=cyclic"), parse_rule("masked:of=[forget, learn]"), parse_rule("ema")
    ({'kind': 'partial', 'keep': 0.2, 'rule': 'cyclic'}, {'kind': 'masked', 'of': ['forget', 'learn']}, {'kind': 'ema'})

    Raises:
        PlanError: an option without a value, or a value that is no YAML.
    """
    kind, _, given = text.partition(":")
    found: dict[str, Any] = {"kind": kind}
    for part in re.split(r",(?![^\[{]*[\]}])", given) if given else ():  # a comma within brackets parts no options
        name, equals, raw = part.partition("=")
        try:
            value = parse_yaml(raw)
        except ValueError:
            equals, value = "", None
        if not (equals and name.strip() and kind):
            raise PlanError(f"--rule {short(text)}: accepted: KIND:OPTION=VALUE,OPTION=VALUE, e.g. partial:keep=0.1")
        if name.strip() == "kind":
            raise PlanError(
                f"--rule {short(text)}: the rule is the word before the colon, and kind no option of it; leave it out"
            )
        found[name.strip()] = value
    return found


_GATES = (
    "gates are no a.b=value: give each as --gate 'retain es >= 0.9 * before', or all as a list in the file of --plan, "
    "e.g. gates: [{set: retain, metric: es, at_least: 0.9, relative_to: before, mode: ratio}]; a forget set has "
    "its own unless one is named for it there; `palimpsest options gates` has the fields"
)


def _section(found: dict[str, Any], method: str, place: str, key: str) -> dict[str, Any]:
    """The mapping that an assignment writes into."""
    if place in ROUTED:
        return found.setdefault(place, {})  # type: ignore[no-any-return]
    if place == method:
        return found.setdefault("options", {})  # type: ignore[no-any-return]
    if place in metrics.names():
        return found.setdefault("measuring", {}).setdefault("options", {}).setdefault(place, {})  # type: ignore[no-any-return]
    if place in derived.names():
        return found.setdefault("derived", {}).setdefault(place, {})  # type: ignore[no-any-return]
    if place in methods.names():
        raise PlanError(f"--set {place}.…: the run's method is {method!r}; give --method {place}, or set {method}.…")
    if place in {"gates", "gate"}:
        raise PlanError(f"--set {place}.{key}: {_GATES}")
    known = (*ROUTED, "controls", method, *metrics.names())
    raise PlanError(f"--set: {unknown('section', place, known, meant_section(place, key))}")


def _control(found: dict[str, Any], key: str, value: Any) -> None:
    """Write ``controls.SET.OPTION=value``, or all options of a set; what is no mapping is refused with the plan."""
    name, dot, option = key.partition(".")
    given = found.setdefault("controls", {})
    if dot and isinstance(given.setdefault(name, {}), dict):
        given[name][option] = value
    else:
        given[name] = value


def metric_options(assignments: Iterable[str] | None, chosen: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Metric -> its options, from assignments such as ``el.n=10``.

    Raises:
        PlanError: an assignment to something that is not measured.
    """
    found: dict[str, dict[str, Any]] = {}
    names = tuple(chosen)
    for assignment in assignments or ():
        place, key, value = parse_assignment(assignment)
        if place not in names:
            raise PlanError(f"--set: {unknown('metric of this call', place, names)}")
        found.setdefault(place, {})[key] = value
    return found
