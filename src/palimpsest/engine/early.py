"""All that can be refused without loading a model, in the order of its cost. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palimpsest import methods
from palimpsest.audit.gates import refuse_unmeasured
from palimpsest.data.encode.picture_size import refuse_channels, refuse_size
from palimpsest.data.read.classes import ClassNames, class_number, class_numbers, own_label
from palimpsest.engine.counted_rows import check_counted
from palimpsest.engine.given import Manner
from palimpsest.engine.handing_on import check_read
from palimpsest.engine.head_growth import check_growing, check_oracle_head, head_after, naming_growth
from palimpsest.engine.held_back import check_restoring
from palimpsest.engine.inputs import Read, check_needs
from palimpsest.engine.measuring import measured_by
from palimpsest.engine.origin import check_makeable, check_records
from palimpsest.engine.other_parts import check_other_parts
from palimpsest.engine.output import Output
from palimpsest.engine.plan import Plan
from palimpsest.engine.progress import Progress
from palimpsest.engine.returning import check_forget, check_returning
from palimpsest.engine.sharded.recipe import check_sharded, check_sharded_rows
from palimpsest.engine.steps_given import check_takes_steps
from palimpsest.errors import DataError, PlanError
from palimpsest.models.at_hand import lacks_head
from palimpsest.models.bound import check_bound, unbound
from palimpsest.models.sources import (
    check_is_of_family,
    check_source,
    classes_of,
    family_of,
    picture_shape_of,
    read_config,
)
from palimpsest.records import Example, Image, Labelled


def check_before(plan: Plan, manner: Manner, *, makes_oracle: bool) -> None:
    """What can be refused before any row is read.

    Args:
        plan: of the run.
        manner: where to.
        makes_oracle: an oracle is to be retrained first.

    Raises:
        UsageError: a set is missing, a folder is no model, the output is taken, a metric does not fit.
    """
    check_source(plan.model, plan.revision)  # first: of what is no model at all nothing else can be told
    check_sharded(plan)
    check_needs(plan, makes_oracle=makes_oracle)
    check_restoring(plan)
    check_growing(plan)
    check_takes_steps(plan)
    _check_matrices(plan)
    if makes_oracle:
        check_makeable(plan)
    for source in (plan.model, plan.base, plan.oracle):
        if source is not None:
            check_source(source, plan.revision)
            check_bound(source)
    _check_kinds(plan)
    _check_head(plan)
    check_other_parts(plan)
    check_read(plan)
    Output(manner.output).check_free(plan)
    chosen = measured_by(plan.measuring, plan.files, family_of(plan.model, plan.revision))
    keys = {name: {metric.key for metric in metrics} for name, metrics in chosen.items()}
    asked = (*(plan.gates or ()), *plan.bounds)
    refuse_unmeasured(asked, keys, "; others by --set measuring.metrics=[...]")


def _check_matrices(plan: Plan) -> None:
    """Refuse an adapter for a method that edits the matrices below it.

    Raises:
        PlanError: says which scopes are for it.
    """
    if methods.card(plan.method).edits_matrices and plan.scope.kind == "lora":
        raise PlanError(
            f"method {plan.method!r} edits the weights themselves, and scope lora leaves them alone; accepted: "
            "scope.kind = all, or layers that name some of them"
        )


def _check_kinds(plan: Plan) -> None:
    """Refuse another kind of model beside the run's: its rows are encoded once, for all of its models.

    Raises:
        PlanError: says which two kinds there are.
    """
    mine = family_of(plan.model, plan.revision).noun
    for role, source in (("base", plan.base), ("oracle", plan.oracle)):
        if source is not None and (theirs := family_of(source, plan.revision).noun) != mine:
            raise PlanError(
                f"--{role} {source} is {theirs}, and --model {plan.model} is {mine}; give one of the kind of the model"
            )


def check_untouched(source: str, progress: Progress) -> None:
    """Refuse a folder that is not as its run left it; say so of a run that nothing can be told of.

    Raises:
        ModelError: names the files that are others.
    """
    check_bound(source)
    if (note := unbound(source)) is not None:
        progress(f"note: {note}", 0, 0)


def _check_head(plan: Plan) -> None:
    """Refuse to look for neighbours in the hidden states of a module that has no last linear layer."""
    cards = map(methods.card, methods.names())
    pairing = plan.pairing
    if "analogous" not in methods.card(plan.method).needs or pairing.random or pairing.encoder != "model":
        return
    if lacks_head(read_config(Path(plan.model).expanduser())):
        able = [card.name for card in cards if plan.kind in card.kinds and "analogous" not in card.needs]
        raise PlanError(
            f"method {plan.method!r} compares hidden states, and model {plan.model} has no last nn.Linear with as many "
            f"outputs as num_outputs; accepted: {', '.join(able)}, or pairing.encoder with a sentence encoder"
        )


def check_rows(plan: Plan, read: Read, *, makes_oracle: bool) -> None:
    """What can be refused once the rows are read.

    Args:
        plan: of the run.
        read: its sets.
        makes_oracle: an oracle is to be retrained first.

    Raises:
        UsageError: rows that are nothing for the model, or that it (or its oracle) did (not) learn.
    """
    head = head_after(plan)
    for name, examples in read.examples.items():
        with naming_growth(plan, name):
            check_examples(examples, plan.model, plan.revision, head)
    forget = read.examples.get("forget", [])
    retrains = makes_oracle or methods.card(plan.method).starts_from == "base"
    check_records(plan, forget, retrains=retrains)
    check_forget(plan, forget)
    check_returning(plan, read.examples)
    check_read(plan, forget)
    check_counted(plan, read.examples)
    check_sharded_rows(plan, read)
    check_oracle_head(plan, read)
    _check_level_of_classes(plan, read, makes_oracle=makes_oracle)


def _check_level_of_classes(plan: Plan, read: Read, *, makes_oracle: bool) -> None:
    """Of a class that stays something must show what a model scores on rows of it that it never saw.

    Raises:
        PlanError: nothing does, and the run is to aim at that.
    """
    classes = head_after(plan)
    aims = plan.control.kind == "auto" and not (makes_oracle or plan.oracle) and "holdout" not in read.examples
    if classes is None or not aims:
        return
    gone = class_numbers(read.examples.get("forget", []), *classes)
    staying = frozenset().union(
        *(class_numbers(read.examples.get(role, []), *classes) for role in ("retain", "replay", "learn"))
    )
    if gone & staying:
        from palimpsest.control.level import from_classes  # and torch with it: its error is the one of the run itself

        from_classes({str(number): number for number in gone}, staying, {}, family_of(plan.model, plan.revision).things)


def check_examples(
    examples: Sequence[Example], model: str, revision: str | None, head: tuple[int, ClassNames] | None = None
) -> None:
    """Refuse rows that are nothing for a model, as far as its config tells, or the head that it will have.

    Raises:
        DataError: such as texts for an image classifier or the reverse, pictures of another size than it takes, or a
            class that it does not have.
    """
    try:
        family_of(model, revision).refuse_strangers(examples, model)
    except DataError:
        check_is_of_family(model, revision)
        raise
    classes, shape = head or classes_of(model), picture_shape_of(model)
    for example in examples:
        try:
            if shape is not None and isinstance(example.content, Image):
                refuse_channels(example.content.shape, shape)
                refuse_size(example.content.shape, shape)
            if classes is not None and isinstance(example.content, Image | Labelled):
                class_number(own_label(example.content, classes[1]), *classes)
        except DataError as problem:
            raise type(problem)(f"{example.name}: {problem}") from None
