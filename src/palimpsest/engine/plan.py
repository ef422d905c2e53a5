"""The plan: everything that defines a run. One schema for the command line, plan files and Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from palimpsest import derived, methods, metrics, rules
from palimpsest.audit.gates import Gate, parse_gates
from palimpsest.audit.refinement import Refinement
from palimpsest.control.settings import Control
from palimpsest.data.sets.controls import Controls, checked_controls
from palimpsest.derived.analogous import Pairing
from palimpsest.derived.diversified import MOST_FORMS
from palimpsest.engine.any_plan import NamedPlan
from palimpsest.engine.chosen_control import PRESETS, for_control, preset, resolved_control
from palimpsest.engine.given_record import check_recordable, chosen_record, rules_to_record
from palimpsest.engine.given_rules import chosen_rules
from palimpsest.engine.sections import (
    Encoding,
    HeadChoice,
    Measuring,
    Repairing,
    Restoring,
    Section,
    as_taught,
    scope_section,
)
from palimpsest.errors import PlanError, unknown
from palimpsest.loop.aliases import meant_option, meant_section
from palimpsest.loop.training import Training
from palimpsest.method_card import MethodCard
from palimpsest.models import parts
from palimpsest.models.parts.parts_folder import part_kinds_in
from palimpsest.models.scope import Scope
from palimpsest.models.sources import family_of
from palimpsest.report.schema import RequestInfo
from palimpsest.source import code_digest
from palimpsest.untrusted import parse_json, parse_yaml, reason_of
from palimpsest.version import VERSION

EVERY_RUN = "palimpsest.engine.execute"  # the module whose imports lead to all that every run does
SECTIONS = (
    "preset",
    "options",
    "training",
    "control",
    "repair",
    "restore",
    "diversify",
    "scope",
    "head",
    "pairing",
    "derived",
    "controls",
    "refine",
    "measuring",
    "encoding",
    "gates",
    "bounds",
    "rules",
    "record",
)
LISTS = ("gates", "bounds", "rules", "record")


class Plan(NamedPlan):
    """All that defines a run; its digest names it."""

    kind: Literal["learn", "unlearn", "update"]
    """What the run is for; an update learns and unlearns at once."""
    method: str
    """File name in ``methods``."""
    model: str
    """Folder or Hub name of the model that changes."""
    revision: str | None = None
    """Commit of a Hub name."""
    base: str | None = None
    """The model before it learned anything, for methods that start there."""
    oracle: str | None = None
    """A model retrained without the forget set, to measure beside."""
    files: dict[str, str]
    """Set name -> file or Hub name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The method's own options."""
    training: Training = Training()
    """Optimizer, length, budgets, seed."""
    control: Control = Control(kind="none")
    """Who chooses rate and length; a plan that is made from what a user gave has it decided."""
    repair: Repairing = Repairing()
    """What keeps the rest."""
    restore: Restoring | None = None
    """What is given back of what must stay once the run has ended; None = nothing, and it is not in the record."""
    diversify: int = Field(default=0, ge=0, le=MOST_FORMS)
    """Further forms of each row to forget, in other sentences, that steps are taken on; 0 = none."""
    scope: Scope = Scope()
    """Which parameters may move."""
    head: HeadChoice | None = None
    """What becomes of a classifier's head by the rows to learn; None = it stays, and is not in the record."""
    pairing: Pairing = Pairing()
    """How the analogous set is built."""
    derived: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Other sets that the run makes -> their options."""
    rules: tuple[dict[str, Any], ...] = ()
    """Around the steps, beside those of the method: each a kind and its options."""
    controls: dict[str, Controls] = Field(default_factory=dict)
    """What the objective is shown of a set, by the set's name; measuring and repair see all of it."""
    record: tuple[str, ...] = ()
    """Histories that the run keeps beside the model, for later deletion from it."""
    refine: Refinement | None = None
    """Per-example stopping; None = run to the budget."""
    measuring: Measuring = Measuring()
    """What is measured."""
    encoding: Encoding = Encoding()
    """How examples become what the model takes."""
    gates: tuple[Gate, ...] | None = None
    """Bounds for the verdict; None = the default ones. The forget set has its own even where none is named for it."""
    bounds: tuple[Gate, ...] = ()
    """Gates that each take the place of the one of the same set and metric, or stand beside the others."""
    allow_forgotten: bool = False
    """Rows that the model was made to forget may come back, or be forgotten once more."""
    request: RequestInfo | None = None
    """What was asked, by whom and when; None where only files were given."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Set or model -> SHA-256 of its content, filled in when the inputs were read."""

    def derived_config(self, name: str) -> BaseModel:
        """The options of a set that the run makes; those of the analogous set have a section of their own."""
        return self.pairing if name == "analogous" else derived.build_config(name, self.derived.get(name, {}))

    def made_by(self) -> dict[str, str]:
        """The version and the digest of the code that this plan is run by.

        The code is that of every run, of the method, the sets that are made for it and the rules it is given, and of
        the metrics, all of them: who asks for one by name is spread over measuring, refinement and control.
        """
        card = methods.card(self.method)
        made = derived.files_of((*card.needs, *card.instead.values()))
        borne = parts.files_of_kinds(part_kinds_in(Path(self.model).expanduser()))
        ruled = rules.files_of(self.rules)
        by_name = [methods.file_of(self.method), *made, *ruled, *borne, *metrics.files()]
        return {"palimpsest": VERSION, "source": code_digest([EVERY_RUN], by_name)}


def make_plan(fields: Mapping[str, Any], sections: Mapping[str, Any]) -> Plan:
    """A validated plan with the method's defaults filled in.

    Args:
        fields: kind, method, model, files, ...
        sections: section name -> given values; unset ones take the method's defaults, then the general ones.

    Raises:
        PlanError: an unknown section, option or value; names the closest one that exists.
    """
    method = methods.card(str(fields["method"]))
    _check_kind(method, fields["kind"])
    values = checked_sections(sections, "the plan")
    name = values.pop("preset", None)
    if name is not None:
        values["control"] = {**values.get("control", {}), **preset(name, str(fields["method"]), values)}
    values["control"] = resolved_control(values, method)
    if values["control"]["kind"] == "auto":
        values = for_control(values, method, family_of(str(fields["model"]), fields.get("revision")))
    elif "refine" not in values and fields["method"] == "icu" and "holdout" in fields["files"]:
        values["refine"] = {}  # iterative refinement is a part of ICU, and a holdout gives its levels
    if isinstance(values.get("restore"), int | float):
        values["restore"] = {"share": values["restore"]}
    if isinstance(values.get("head"), str):
        values["head"] = {"kind": values["head"]}
    options = method.configured(values.pop("options", {}))
    values["training"] = {**method.defaults, **values.get("training", {})}
    values["scope"] = scope_section(values.get("scope", {}), method)
    if values.get("gates") is not None:
        values["gates"] = parse_gates(values["gates"])
    values["bounds"] = parse_gates(values.get("bounds", []))
    values["derived"] = _derived(values.get("derived", {}), method)
    values["rules"] = chosen_rules(values.get("rules", ()), method, options)
    values["controls"] = _controls(values.get("controls", {}), method, options, fields["files"])
    values = _with_record(values, method)
    plan = _validate({**fields, **values, "options": options.model_dump(mode="json")})
    plan = plan.model_copy(update={"encoding": as_taught(plan.encoding, plan.model)})
    _check_metrics(plan.measuring)
    return plan


def _with_record(values: Mapping[str, Any], method: MethodCard) -> dict[str, Any]:
    """Sections with what is to be recorded, and the rules that record it."""
    kinds = chosen_record(values.get("record", ()), values["rules"], method)
    scope = values.get("scope", {})
    check_recordable(kinds, scope.model_dump() if isinstance(scope, Section) else scope)
    return {**values, "record": kinds, "rules": (*values["rules"], *rules_to_record(kinds, values["rules"], method))}


def _check_kind(method: MethodCard, kind: str) -> None:
    """The method does what is asked: learn, unlearn or update."""
    if kind not in method.kinds:
        able = [name for name in methods.names() if kind in methods.card(name).kinds]
        raise PlanError(f"method {method.name!r} does not {kind}; accepted: {', '.join(able)}")


def _controls(given: object, method: MethodCard, options: Any, files: Collection[str]) -> dict[str, Controls]:
    """The controls of a plan: of a method that edits, on what its steps after the edit draw from."""
    drawn = _drawn(method, files)
    if given and method.edits and not stages_show_late(methods.load(method.name)):  # its stages need torch
        stages = methods.load(method.name)(options).stages(dict.fromkeys(drawn, 0))
        seen = {name for stage in stages for phase in stage.phases or () for name in phase.sets}
        drawn = {name: sees and name in seen for name, sees in drawn.items()}
    return checked_controls(given, drawn)


def stages_show_late(kind: type[Any]) -> bool:
    """Do the stages of a method that edits depend on the parts that it adds or finds, so that no plan tells them?"""
    return kind.edits and kind.adds_parts and "stages" in vars(kind)


def _drawn(method: MethodCard, files: Collection[str]) -> dict[str, bool]:
    """Sets that a run of the method draws from -> does its objective look at their rows? A bench names no files yet."""
    named = (*method.needs, *(name for group in method.one_of for name in group), *method.uses)
    given = {*(files or named), *derived.of_needs(method.needs)}
    return {name: name not in method.by_id for name in named if name in given}


def _check_metrics(measuring: Measuring) -> None:
    """Every metric that is measured, or has options, can be built with them."""
    for name in (*measuring.metrics, *measuring.options):
        metrics.build(name, measuring.options.get(name, {}))


def _derived(given: Mapping[str, Any], method: MethodCard) -> dict[str, dict[str, Any]]:
    """The options of every set that a run of the method makes, defaults filled in.

    Raises:
        PlanError: options of a set that it does not make, or options that the set does not have.
    """
    made = [name for name in derived.of_needs(method.needs) if name != "analogous"]
    for name in given:
        if name not in made:
            raise PlanError(f"method {method.name!r} makes no set of that name: {unknown('derived set', name, made)}")
    return {name: derived.build_config(name, given.get(name, {})).model_dump(mode="json") for name in made}


def checked_sections(value: object, where: str) -> dict[str, Any]:
    """A plan's sections, each a mapping, but for gates, bounds, rules and record (lists) and refine (None is off).

    Args:
        value: what was given.
        where: it came from, for the error.

    Raises:
        PlanError: it is no mapping of known sections.
    """
    if not isinstance(value, Mapping):
        raise PlanError(f"{where} is {value!r}; accepted: a mapping of {', '.join(SECTIONS)}")
    for name, section in value.items():
        if name not in SECTIONS:
            raise PlanError(f"{where}: {unknown('section', str(name), SECTIONS, meant_section(str(name)))}")
        if name == "preset":
            if section not in PRESETS:
                raise PlanError(unknown("preset", str(section), PRESETS))
        elif not _is_section(str(name), section):
            raise PlanError(f"{where}: section {name!r} is {section!r}; accepted: a mapping of options")
    return dict(value)


def _is_section(name: str, value: object) -> bool:
    """Could this be what a section says? Of a list that is seen where it is read."""
    if name in LISTS or isinstance(value, Mapping | Section):
        return True
    if name in ("restore", "diversify") and isinstance(value, int | float | None):
        return True
    return (name == "refine" and value is None) or (name == "head" and isinstance(value, str | None))


def _validate(values: Mapping[str, Any]) -> Plan:
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise PlanError(_sentence(problems[0], values) + more) from None


_OPTIONAL: Mapping[str, type[BaseModel]] = {"head": HeadChoice, "refine": Refinement, "restore": Restoring}


def _sentence(problem: Any, values: Mapping[str, Any]) -> str:
    """One pydantic problem in our words: where, what came, what is accepted."""
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        section = getattr(Plan.model_fields.get(place[0]), "default", None) if len(place) > 1 else None
        fields = type(section).model_fields if isinstance(section, BaseModel) else Plan.model_fields
        if place[0] in _OPTIONAL and len(place) > 1:
            fields = _OPTIONAL[place[0]].model_fields
        if len(place) == 1:
            return unknown("option", place[0], fields)
        return unknown(f"option of {place[0]}", place[-1], fields, meant_option(place[0], place[-1]))
    message = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    return f"{'.'.join(place)} = {problem['input']!r}: {message}"


def read_mapping(path: str | Path, what: str, accepted: str) -> dict[str, Any]:
    """The mapping that a YAML or JSON file holds.

    Args:
        path: of the file.
        what: word for it in an error, such as "plan".
        accepted: what it should be a mapping of.

    Raises:
        PlanError: missing, not YAML or JSON, or not a mapping.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        value = parse_json(text) if file.suffix == ".json" else parse_yaml(text)
    except OSError as error:
        raise PlanError(f"{what} {path}: {error.strerror or error}; give a YAML or JSON file") from None
    except ValueError as error:
        raise PlanError(f"{what} {path}: neither YAML nor JSON ({reason_of(error)})") from None
    if not isinstance(value, dict):
        raise PlanError(f"{what} {path}: holds a {type(value).__name__}; accepted: a mapping of {accepted}")
    return value


def read_plan_file(path: str | Path) -> dict[str, Any]:
    """Sections of a YAML or JSON plan file.

    Raises:
        PlanError: missing, not YAML or JSON, or not a mapping of known sections.
    """
    return checked_sections(read_mapping(path, "plan", ", ".join(SECTIONS)), f"plan {path}")
