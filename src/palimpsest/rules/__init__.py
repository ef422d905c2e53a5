"""Rules around the steps of a run, and what rules and methods do alike to gradients; this folder is the registry.

A file here that sets ``RULE`` at its top level is a rule under its file name: any run can be given it, whatever its
method; the other files are what rules and methods share. Nothing here imports torch before a rule is asked for: listing
the names reads the files and imports none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from palimpsest.errors import PlanError, unknown
from palimpsest.method_file import files_that_set

if TYPE_CHECKING:
    from pydantic import BaseModel

    from palimpsest.rules.rule import Rule

WHICH = "kind"  # says in a plan which rule it is


def names() -> tuple[str, ...]:
    """Names of all rules, sorted.

    >>> "masked" in names(), "own_step" in names()
    (True, False)
    """
    return tuple(sorted(_files()))


def _files() -> dict[str, Path]:
    """Name of each rule -> its file."""
    return {file.stem: file for file in files_that_set("RULE", __path__)}


def load(name: str) -> type[Rule]:
    """The rule of a name.

    Raises:
        PlanError: no such rule; names the closest one.
    """
    if name not in names():
        raise PlanError(unknown("rule", name, names()))
    rule: type[Rule] = import_module(f"{__name__}.{name}").RULE
    return rule


class RuleCard(NamedTuple):
    """What a rule is, for who chooses.

    Attributes:
        about: docstring of its file.
        use_when: one sentence.
        place: what it does to the weights.
    """

    about: str
    use_when: str
    place: str


def rule_card(name: str) -> RuleCard:
    """What a rule is, read in its file where that can be done, so that torch is not imported.

    Raises:
        PlanError: no such rule; names the closest one.
    """
    from palimpsest.method_file import read_rule

    read = read_rule(_files()[name]) if name in names() else None
    return RuleCard(*read) if read is not None else card_of_rule(load(name))


def options_of_rule(name: str) -> type[BaseModel]:
    """The schema of a rule's options for who lists them, read in its file where that can be done.

    Raises:
        PlanError: no such rule; names the closest one.
    """
    from palimpsest.method_file import read_options

    read = read_options(_files()[name], "RULE") if name in names() else None
    return load(name).Config if read is None else read


def card_of_rule(rule: type[Rule]) -> RuleCard:
    """The same, asked of its class."""
    about = (sys.modules[rule.__module__].__doc__ or "").strip()
    return RuleCard(about, rule.use_when, rule.place)


def build_config(name: str, options: Mapping[str, Any]) -> BaseModel:
    """Validated options of a rule.

    Raises:
        PlanError: no such rule, an unknown option, or a value out of range.
    """
    from palimpsest.method_card import check_names, configured
    from palimpsest.method_file import read_names_of_rule_options

    known = read_names_of_rule_options(_files()[name]) if name in names() else None
    if known is not None:
        check_names(name, known, options)  # before the file is run, which imports torch
    return configured(name, load(name).Config, options)


def chosen(given: object) -> tuple[dict[str, Any], ...]:
    """The rules of a plan, each with its kind and all its options.

    Args:
        given: a list of mappings, each with a ``kind`` and, beside it, options of that rule.

    Raises:
        PlanError: it is no such list, a rule or an option is not one, or two of the rules contradict.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise PlanError(f"rules = {given!r}; {_ACCEPTED}")
    rows = tuple(_row(one) for one in given)
    check_together([rule_of(row) for row in rows])
    return rows


_ACCEPTED = "accepted: a list of mappings with a kind and its options, e.g. [{kind: partial, keep: 0.1}]"


def _row(one: object) -> dict[str, Any]:
    if not isinstance(one, Mapping) or not isinstance(one.get(WHICH), str):
        raise PlanError(f"a rule is {one!r}; {_ACCEPTED}")
    options = {name: value for name, value in one.items() if name != WHICH}
    return {WHICH: one[WHICH], **build_config(one[WHICH], options).model_dump(mode="json")}


def rule_of(row: Mapping[str, Any]) -> Rule:
    """The rule that a row of ``chosen`` describes."""
    options = {name: value for name, value in row.items() if name != WHICH}
    return load(row[WHICH])(build_config(row[WHICH], options))


def check_together(rules: Sequence[Rule], owner: str = "", own: Sequence[Rule] = ()) -> None:
    """Refuse rules that would both decide one thing.

    Args:
        rules: of a run.
        owner: the run's method, for the error.
        own: rules that the method has itself.

    Raises:
        PlanError: names the two, and what both would decide.
    """
    decided = {rule.decides(rule.config): f"the rule {rule.kind} of method {owner!r}" for rule in own}
    for rule in rules:
        what = rule.decides(rule.config)
        if what in decided:
            raise PlanError(f"rule {rule.kind}: {decided[what]} already decides {what}; leave one of the two out")
        decided[what] = f"another rule {rule.kind}"


def files_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Path, ...]:
    """The files of the rules of some rows.

    >>> [file.name for file in files_of([{"kind": "masked"}])]
    ['masked.py']
    """
    files = _files()
    return tuple(files[row[WHICH]] for row in rows)


def reads(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Sets that the rules of some rows look at -> the rule that does."""
    built = [rule_of(row) for row in rows]
    return {name: rule.kind for rule in built for name in rule.reads(rule.config)}
