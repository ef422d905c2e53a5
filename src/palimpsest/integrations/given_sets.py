"""What an ``ObjectiveTrainer`` is given -> a plan, and the sets of its method, encoded and checked."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from transformers import ProcessorMixin
from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils import logging

from palimpsest import derived, methods
from palimpsest.contract import Method
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.data.sets.roles import may_overlap
from palimpsest.engine.given import Given
from palimpsest.engine.inputs import encode_sets, read_given
from palimpsest.engine.plan import Plan, checked_sections, make_plan
from palimpsest.errors import DataError, PlanError, unknown
from palimpsest.method_card import KIND_WORDS
from palimpsest.models.families import of_model
from palimpsest.models.images import Preprocessor, pixel_format
from palimpsest.models.load import Loaded

SECTIONS_TAKEN = ("derived", "encoding", "options", "pairing", "training")
logger = logging.get_logger(__name__)


def plan_in_trainer(model: Any, args: Any, method: str, sections: Mapping[str, Any] | None) -> Plan:
    """The plan of a run whose optimizer and length are a Trainer's.

    Args:
        model: in memory; where it was loaded from says how it was taught.
        args: TrainingArguments, checked.
        method: file name in ``methods``.
        sections: as in the ``plan`` of a verb, as far as there is anything left to say.

    Raises:
        PlanError: an unknown section, option or value; or one that TrainingArguments say.
    """
    given = checked_sections(sections or {}, "plan")
    training = dict(given.pop("training", {}))
    for name in given:
        if name not in SECTIONS_TAKEN:
            raise PlanError(f"plan.{name} is for Palimpsest's own loop; accepted here: {', '.join(SECTIONS_TAKEN)}")
    for name in training:
        if name != "side_batch_size":
            raise PlanError(f"plan.training.{name}: give it in TrainingArguments; accepted here: side_batch_size")
    training["seed"] = args.seed if args.data_seed is None else args.data_seed
    training["micro_batch_size"] = args.per_device_train_batch_size
    training["batch_size"] = args.per_device_train_batch_size * args.gradient_accumulation_steps
    kind = methods.card(method).kinds[0]
    fields = {"kind": kind, "method": method, "model": _place(model), "files": {}}
    return make_plan(fields, {**given, "training": training, "control": {"kind": "none"}})


def sets_in_trainer(plan: Plan, model: Any, processing_class: Any, sets: Any) -> dict[str, ExampleSet]:
    """The sets of a method, by role: those that are encoded as they are, the others read and encoded.

    Raises:
        PlanError: a role that is missing, or that the method does not draw from.
        DataError: a source that cannot be used, an empty set, or two sets with common examples.
    """
    kind = methods.load(plan.method)
    if kind.adds_parts:
        raise PlanError(
            f"method {plan.method!r} adds parts to the model, which only Palimpsest's own runs save whole; accepted "
            "here: a method without parts; for this one call pal.unlearn, pal.learn or pal.update"
        )
    if not isinstance(sets, Mapping):
        raise PlanError(f"sets is a {type(sets).__name__}; accepted: a mapping, {{role: examples}}")
    _check_roles(plan.method, kind, sets)
    family = of_model(model)
    if not methods.fits_family(kind, family):
        able = " and ".join(KIND_WORDS[one] for one in methods.works_on(kind))
        raise PlanError(f"method {plan.method!r} works on {able} alone and the model is {family.noun}")
    ready = {role: given for role, given in sets.items() if isinstance(given, ExampleSet)}
    rows = {role: given for role, given in sets.items() if role not in ready}
    encoded = {**ready, **_encoded(plan, loaded_in_trainer(model, processing_class), rows)}
    _check_not_empty(encoded)
    _check_ids(encoded)
    return {role: encoded[role] for role in sets}


def check_sizes(plan: Plan, args: Any, sets: Mapping[str, ExampleSet]) -> None:
    """Every micro-batch has an example of every set, and the number of steps is the loop's.

    Raises:
        PlanError: says what to give.
    """
    kind = methods.load(plan.method)
    anchor, *others = kind.draws_from(sets)
    for name in others:
        drawn = plan.training.drawn_from(name)
        if drawn < args.gradient_accumulation_steps:
            raise PlanError(
                f"side_batch_size of {name} is {drawn} and gradient_accumulation_steps "
                f"{args.gradient_accumulation_steps}: a micro-batch would have none; give at least as many"
            )
    longer = anchor == "learn" and "forget" in others and len(sets["forget"]) > len(sets["learn"])
    if longer and args.max_steps <= 0:
        raise PlanError("the forget set is larger than the learn set, whose passes are the epochs here; give max_steps")


def loaded_in_trainer(model: Any, processing_class: Any) -> Loaded:
    """A model in memory as the engine knows a loaded one."""
    source = _place(model)
    if not _is_image(model):
        return Loaded(model, getattr(processing_class, "tokenizer", processing_class), source)
    given = processing_class
    if isinstance(given, ProcessorMixin):
        given = given.image_processor
    preprocessor = Preprocessor(given.to_dict()) if isinstance(given, ImageProcessingMixin) else given
    return Loaded(model, None, source, pixel_format(preprocessor, model.config.to_dict(), source), preprocessor)


def _is_image(model: Any) -> bool:
    return of_model(model).takes == "image"


def _place(model: Any) -> str:
    """Where a model was loaded from, else what it is."""
    return str(getattr(model, "name_or_path", "") or type(model).__name__)


def _check_roles(method: str, kind: type[Method], sets: Mapping[str, Any]) -> None:
    groups = kind.one_of
    needed = derived.to_give(kind.needs)
    accepted = [*needed, *(name for group in groups for name in group), *kind.uses]
    for role in sets:
        if role not in accepted:
            raise PlanError(f"method {method!r}: {unknown('set', str(role), set(accepted))}")
    for role in needed:
        if role not in sets:
            raise PlanError(f"method {method!r} needs the {role} set; give sets={{{role!r}: ...}}")
    for group in groups:
        if not set(group) & set(sets):
            raise PlanError(f"method {method!r} needs the {' or the '.join(group)} set; give one of them in sets")


def _encoded(plan: Plan, loaded: Loaded, rows: Mapping[str, Any]) -> dict[str, ExampleSet]:
    if not rows:
        return {}
    if loaded.family.takes != "image" and loaded.tokenizer is None:
        raise PlanError(f"the {next(iter(rows))} set is given as rows; {_how_encoded(loaded.model)}")
    read = read_given(Given(plan.model, rows), separator=plan.encoding.separator, family=loaded.family)
    for note in read.notes:
        logger.warning(note)
    return encode_sets(read.examples, loaded, plan.encoding)


def _how_encoded(model: Any) -> str:
    """What to do where rows cannot be encoded."""
    if hasattr(model, "main_input_name"):
        return "give processing_class=tokenizer to encode them"
    return (
        f"a {type(model).__name__} does not say what it takes; accepted: a model of transformers, or your own in a "
        "verb, as pal.Model.of(module, num_outputs=..., image_size=...)"
    )


def _check_not_empty(sets: Mapping[str, ExampleSet]) -> None:
    for role, examples in sets.items():
        if not len(examples):
            raise DataError(f"the {role} set is empty; give at least one example")


def _check_ids(sets: Mapping[str, ExampleSet]) -> None:
    for left, right in combinations(sets, 2):
        common = sorted(set(sets[left].ids) & set(sets[right].ids))
        if common and not may_overlap(left, right):
            raise DataError(
                f"{len(common)} ids are in both the {left} and the {right} set, e.g. {common[0]!r}; "
                "remove them from one of the two"
            )
