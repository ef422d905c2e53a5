"""Files of a plan -> checked sets. Nothing is loaded onto a device and nothing is written before all of it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from palimpsest import derived, methods
from palimpsest.data.draws import shuffled
from palimpsest.data.read.examples import read_rows, set_digest
from palimpsest.data.read.joined import joined_without_blank
from palimpsest.data.read.layout import Rows, check_used
from palimpsest.data.read.memory_rows import describe_source
from palimpsest.data.read.selection import select, written_alike
from palimpsest.data.sets.roles import given_roles, may_overlap
from palimpsest.data.sets.same_names import told_apart
from palimpsest.data.sets.splits import check_disjoint
from palimpsest.engine.given import Given
from palimpsest.engine.given_rules import looked_at
from palimpsest.engine.plan import Plan
from palimpsest.engine.progress import Progress, silent
from palimpsest.engine.sections import Encoding
from palimpsest.engine.varying import check_varied
from palimpsest.errors import DataError, PlanError
from palimpsest.method_card import KIND_WORDS, MethodCard
from palimpsest.models.families import Family
from palimpsest.models.sources import check_is_of_family, class_names_in, family_of
from palimpsest.records import Example, content_id
from palimpsest.report.schema import RequestInfo

if TYPE_CHECKING:  # what is wrong with the rows is said before torch is imported
    from palimpsest.data.encode.batch import ExampleSet
    from palimpsest.models.load import Loaded

Examples = Mapping[str, list[Example]]
AnySet = TypeVar("AnySet", bound="ExampleSet")


class Read(NamedTuple):
    """What was read for a run.

    Attributes:
        examples: role -> its examples.
        notes: what a reader of the result should know of the reading, e.g. columns that were left out.
        request: what was asked, as it stands in the record; None where only files were given.
    """

    examples: dict[str, list[Example]]
    notes: tuple[str, ...] = ()
    request: RequestInfo | None = None


def read_given(
    given: Given, progress: Progress = silent, *, separator: str | None = "", family: Family | None = None
) -> Read:
    """Read every set of a request, take from the pool what must go, and check that the sets are disjoint.

    Args:
        given: the request.
        progress: told what was left out.
        separator: between prompts and completions.
        family: of the model; None = as its config tells.

    Raises:
        DataError: the first source that cannot be used, or an overlap of two sets.
    """
    family = family or family_of(given.model, given.models.get("revision"))
    rows = _rows_of(given, family)
    notes = []
    for name, read in rows.items():
        for note in _notes_of(name, read, joins=family.joins and not separator):
            notes.append(f"{note}.")
            progress(f"reading {name}", len(read.examples), len(read.examples), note)
    examples = {name: list(read.examples) for name, read in rows.items()}
    if given.data is not None:
        pooled(examples, given)
        near = written_alike(examples["retain"], given.selection)
        if near is not None:
            notes.append(f"{describe_source(given.data)}: {near}.")
            progress(f"note: {notes[-1]}", 0, 0)
    examples = _named_apart(examples, notes, progress)
    _check_apart(examples)
    return Read({role: examples[role] for role in given_roles() if role in examples}, tuple(notes), _asked(given))


def _rows_of(given: Given, family: Family) -> dict[str, Rows]:
    """Every source, read as the family of the model takes its rows."""
    sources = {**given.sets, **({} if given.data is None else {"data": given.data})}
    layout = family.layout(given.layout)
    rows = {name: read_rows(source, layout, name=name) for name, source in sources.items()}
    check_used(layout, rows.values())
    return rows


def _notes_of(name: str, read: Rows, *, joins: bool) -> tuple[str, ...]:
    """What its reading left out, and whether its prompts and completions run into each other where they are joined."""
    joined = joined_without_blank(read.examples) if joins else None
    return (*read.notes, f"{name}: {joined}") if joined else read.notes


def pooled(examples: dict[str, list[Example]], given: Given) -> None:
    """Split the pool in place: what is named into "forget", the rest into "retain", beside what was given to retain.

    Raises:
        DataError: as ``select``.
    """
    pool = examples.pop("data")
    revision = given.models.get("revision")
    named = given.selection.classes and family_of(given.model).has_classes
    names = class_names_in(given.model, revision) if named else {}
    forget, rest = select(pool, given.selection, names, source=describe_source(given.data))
    kept = examples.get("retain", [])
    known = {(example.id, content_id(example.content)) for example in kept}
    retain = [*kept, *(e for e in rest if (e.id, content_id(e.content)) not in known)]
    if not retain:
        raise DataError(f"{describe_source(given.data)}: every row is named, so that nothing stays; name fewer")
    examples["forget"], examples["retain"] = forget, retain


def _named_apart(sets: Examples, notes: list[str], progress: Progress) -> dict[str, list[Example]]:
    """The sets with different pictures under different ids; what was renamed is added to the notes."""
    found, renamed = told_apart(sets)
    for note in renamed:
        notes.append(f"{note}.")
        progress(f"note: {notes[-1]}", 0, 0)
    return found


def _check_apart(sets: Examples) -> None:
    names = list(sets)
    for position, left in enumerate(names):
        for right in names[position + 1 :]:
            if not may_overlap(left, right):
                check_disjoint({left: sets[left], right: sets[right]})


def _asked(given: Given) -> RequestInfo | None:
    """The record of the request, where there is anything to record beside files."""
    chosen = given.selection
    info = RequestInfo(
        subjects=chosen.subjects,
        ids=chosen.ids,
        classes=chosen.classes,
        data="" if given.data is None else describe_source(given.data),
        asked_by=given.asked_by,
        asked_on=given.asked_on,
    )
    return None if info == RequestInfo() else info


def check_needs(plan: Plan, *, makes_oracle: bool = False) -> None:
    """Every set and model the method needs was given, and none that it would ignore.

    Args:
        plan: resolved.
        makes_oracle: an oracle will be there by the time that it is needed.

    Raises:
        PlanError: names what is missing and the option that gives it.
    """
    method = methods.card(plan.method)
    _check_sets(plan, method)
    if method.starts_from == "base" and plan.base is None:
        raise PlanError(
            f"method {plan.method!r} starts from the model before it learned anything; give it with --base DIR"
        )
    _check_beside(plan, method)
    _check_level(plan, has_oracle=makes_oracle or plan.oracle is not None)
    check_family(plan, family_of(plan.model, plan.revision))


def _check_sets(plan: Plan, method: MethodCard) -> None:
    """What the method draws from was given."""
    given = set(plan.files)
    for name in derived.to_give(method.needs):
        if name not in given:
            raise PlanError(f"method {plan.method!r} needs the {name} set; give it with --{name} FILE")
    for group in method.one_of:
        if not given & set(group):
            options = " or ".join(f"--{name} FILE" for name in group)
            raise PlanError(f"method {plan.method!r} needs the {' or the '.join(group)} set; give {options}")


def _check_beside(plan: Plan, method: MethodCard) -> None:
    """What a run does beside its method has its sets, and none is given in vain."""
    given = set(plan.files)
    if plan.repair.steps and not given & {"retain", "replay"}:
        raise PlanError("repair.steps needs something to keep; give --retain FILE or --replay FILE")
    if plan.refine is not None and "forget" not in given:
        raise PlanError("refine needs the forget set; give it with --forget FILE")
    used = {*method.uses, *looked_at(plan.rules, given, method, plan.kind)}
    rehearses = "replay" in used or plan.control.kind == "auto" or plan.repair.steps > 0
    if "replay" in given and not rehearses:
        raise PlanError(
            f"method {plan.method!r} draws from no replay set at a fixed rate; leave --replay out, give repair.steps, "
            "or use --general to measure"
        )


def _check_level(plan: Plan, *, has_oracle: bool) -> None:
    """A level that was asked for is one that the run will aim at, from a source that is there."""
    level = plan.control.level
    if level == "auto":
        return
    if plan.kind == "learn":
        raise PlanError(f"control.level = {level}: a run that only learns aims at no level of never seen; leave it out")
    if plan.control.kind == "none":
        raise PlanError(f"control.level = {level}: a run at a fixed rate aims at no level; leave it or the rate out")
    if level == "oracle" and not has_oracle:
        raise PlanError("control.level = oracle, and no oracle was given; give --oracle DIR, or leave the level out")


def unwatched(plan: Plan) -> str | None:
    """Why a run that finds its rate will hardly get anywhere with the sets that it was given, or None."""
    if plan.kind != "update" or plan.control.kind == "none" or {"retain", "replay"} & plan.files.keys():
        return None
    blind = "" if plan.oracle else ", and nothing tells what a model scores that never saw the forget set"
    return (
        "an update without --retain and --replay rehearses nothing but the model's own words, which learning changes"
        f"{blind}: it often ends short, with the weights from before; give one of the two, better both"
    )


def check_family(plan: Plan, family: Family) -> None:
    """The method is for this family of models; neighbours and refinement compare tokens.

    Raises:
        PlanError: it is not; says which are.
    """
    method = methods.card(plan.method)
    if not methods.fits_family(method, family):
        check_is_of_family(plan.model, plan.revision)
        cards = map(methods.card, methods.names())
        able = [card.name for card in cards if plan.kind in card.kinds and methods.fits_family(card, family)]
        raise PlanError(
            f"method {plan.method!r} {_why_not(method, family)} and model {plan.model} is {family.noun}; accepted: "
            f"{', '.join(able) or 'measure, which needs no method'}"
        )
    check_varied(plan, family.takes)
    if not family.has_gradient:
        _check_priced(plan)
    if plan.refine is not None and not family.reads_prefixes:
        raise PlanError(f"refine tests what of a text can be extracted and model {plan.model} is {family.noun}")


def _check_priced(plan: Plan) -> None:
    """Refuse what asks as long as it needs, of a model whose price is told beforehand."""
    for name, wanted in {"control.kind = auto": plan.control.kind == "auto", "refine": plan.refine is not None}.items():
        if wanted:
            raise PlanError(
                f"{name}: such a run asks as often as it needs, and model {plan.model} can only be asked, at a cost "
                "that is told beforehand; accepted: the rate and length that the method brings, or given ones"
            )


def _why_not(method: MethodCard, family: Family) -> str:
    """What a method is for, where that is not a family of models."""
    made = next(
        (n for n in derived.of_needs(method.needs) if not derived.can_be_made_for(derived.load(n), family)), None
    )
    if made is not None:
        return f"looks for {made} texts"
    if not family.has_gradient and family.takes in method.modalities:
        return "needs gradients"
    if method.reads_prefixes and family.takes in method.modalities:
        return "takes prompt and answer for one text"
    listed = " and ".join(KIND_WORDS[kind] for kind in method.modalities)
    return f"works on {listed} alone"


def digests(sets: Examples) -> dict[str, str]:
    """Set name -> digest of its content."""
    return {name: set_digest(examples) for name, examples in sets.items()}


def encode_sets(sets: Examples, loaded: Loaded, encoding: Encoding) -> dict[str, Any]:
    """All sets as one model takes them, by its family.

    Args:
        sets: set name -> examples.
        loaded: the model.
        encoding: how; its augmentation is for the sets that are trained on, and measuring leaves it out.

    Raises:
        DataError: rows that are nothing for the model, or that are to be forgotten and kept.
    """
    from palimpsest.data.encode.augment import Augmentation

    augment = None if encoding.augment is None else Augmentation(**encoding.augment.model_dump())
    encoded = {name: encode_set(examples, loaded, encoding) for name, examples in sets.items()}
    return loaded.family.together(encoded, loaded, augment)


def encode_set(examples: Sequence[Example], loaded: Loaded, encoding: Encoding) -> Any:
    """One set as one model takes it, by its family; not augmented.

    Raises:
        DataError: an example that is nothing for this model.
    """
    loaded.family.refuse_strangers(examples, loaded.source)
    return loaded.family.encode(
        examples,
        loaded,
        max_length=encoding.max_length,
        truncate=encoding.truncate,
        separator=encoding.separator or "",
    )


def subset(examples: AnySet, limit: int, seed: int, name: str) -> AnySet:
    """At most ``limit`` examples, drawn with a seed, in the order of the set."""
    if len(examples) <= limit:
        return examples
    return cast("AnySet", examples.subset(shuffled(examples.ids, seed, f"{name}/measure", 0)[:limit]))
