"""``palimpsest learn``, ``unlearn`` and ``update``: one runner, three commands made from the table in ``flags.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from palimpsest.cli import options as o
from palimpsest.cli.flags import UNLEARN, command_of, flags_of, training_of
from palimpsest.cli.screen import show_result, shown_progress

GOES_ON = "The same command again goes on where a dead one stopped."
ABOUT = {
    "learn": "Teach a model new examples.",
    "unlearn": "Make a model forget examples.",
    "update": "Learn and unlearn in one run.",
}
EPILOG = (
    "DATA: JSONL, JSON, CSV, Parquet, .npz, an image or dataset folder, a Hub name. Seed, rate, lengths, splits and "
    "more: --help-all. Options of a plan: `palimpsest options`."
)
_USUAL = {"learn": "finetune", "update": "ug_clu"}


def command(verb: str) -> Callable[..., int]:
    """The function that typer makes a command from."""
    return command_of(lambda values: _run(verb, values), flags_of(verb), f"{ABOUT[verb]} {GOES_ON}")


def _run(verb: str, values: dict[str, Any]) -> int:
    as_json, output = values.pop("json"), values.pop("output")
    del values["help_all"]  # it has done its work
    method = _method(verb, values)
    sections = _sections(method, values)
    values["columns"] = o.column_names(values.pop("column"))
    values["ignore_columns"] = values.pop("ignore_column") or ()
    from palimpsest import verbs

    model = values.pop("model")
    rest = {name: value for name, value in values.items() if value is not None}
    if verb == "learn":
        rest["data"] = rest.pop("learn")
    with shown_progress(quiet=as_json) as progress:
        result = getattr(verbs, verb)(model, output=output, method=method, plan=sections, progress=progress, **rest)
    return show_result(result, str(output), as_json=as_json)


def _sections(method: str, values: dict[str, Any]) -> dict[str, Any]:
    """Take the options of the plan out of the values of a command; the sections that they make."""
    sections = o.sections_from(
        method, values.pop("plan"), values.pop("assign"), training_of(values), values.pop("scope"), values.pop("preset")
    )
    encoding = {"truncate": values.pop("truncate") or None, "separator": values.pop("separator")}
    if given := {name: value for name, value in encoding.items() if value is not None}:
        sections["encoding"] = {**sections.get("encoding", {}), **given}
    if recorded := values.pop("record"):
        sections["record"] = [*sections.get("record", ()), *recorded]
    if given_rules := values.pop("rule"):
        sections["rules"] = [*sections.get("rules", ()), *map(o.parse_rule, given_rules)]
    if bounds := values.pop("gate"):
        from palimpsest.audit.gate_text import gate_fields

        sections["bounds"] = [gate_fields(bound) for bound in bounds]
    return sections


def _method(verb: str, values: dict[str, Any]) -> str:
    """The method asked for, or the usual one."""
    given: str | None = values.pop("method")
    if given is not None:
        return given
    if verb != UNLEARN:
        return _USUAL[verb]
    from palimpsest.engine.usual import usual_method

    return usual_method(values["model"], values["revision"])
