"""Heads that grow: which classes the rows to learn add to a run's models. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from palimpsest.data.read.classes import class_numbers
from palimpsest.data.read.new_classes import NEW_HEAD, Head, head_with, names_in_order, new_classes
from palimpsest.engine.inputs import Read
from palimpsest.engine.plan import Plan
from palimpsest.errors import ClassError, DataError, PlanError
from palimpsest.models.sources import check_is_of_family, classes_of, family_of

if TYPE_CHECKING:
    from palimpsest.models.loaded import Loaded


def check_growing(plan: Plan) -> None:
    """Refuse to let a head grow where none can, or nothing is to be learned.

    Raises:
        PlanError: says why.
    """
    if plan.head is None:
        return
    family = family_of(plan.model, plan.revision)
    if "learn" not in plan.files and not plan.head.added:
        raise PlanError("head: it grows by the rows to learn, and there are none; leave --head out, or give --learn")
    if not family.has_classes:
        check_is_of_family(plan.model, plan.revision)
        raise PlanError(f"head: model {plan.model} is {family.noun}, which has no classes; leave --head out")
    if plan.restore is not None:
        raise PlanError("restore mixes the model after a run with the one before, and --head gives them other outputs")
    if plan.head.kind == "new" and plan.kind == "update":
        raise PlanError("head = new: it forgets every class that it knew; accepted: in a run that only learns")


def with_classes(plan: Plan, read: Read) -> Plan:
    """The plan with the names of the classes that its head gets.

    Raises:
        DataError: a class under two spellings, or none at all.
    """
    if plan.head is None or plan.head.added:
        return plan
    before = NEW_HEAD if plan.head.kind == "new" else _head_of(plan.model)
    added = new_classes(read.examples["learn"], before)
    if plan.head.kind == "new" and len(added) < 2:
        raise DataError(f"the rows to learn have no second class beside {', '.join(added)}; accepted: two or more")
    if not added:  # nothing grows, so that this is the run that it would be without
        return plan.model_copy(update={"head": None})
    return plan.model_copy(update={"head": plan.head.model_copy(update={"added": added})})


def head_after(plan: Plan) -> Head | None:
    """The head of the models of a run, as far as that shows without loading one; None where nothing tells."""
    known = classes_of(plan.model)
    if known is None or plan.head is None:
        return None if known is None else Head(*known)
    return head_with(NEW_HEAD if plan.head.kind == "new" else Head(*known), plan.head.added)


def classes_beyond(source: str, plan: Plan) -> tuple[str, ...]:
    """Names of the classes of a run's models that another model lacks, where all that it has come first among them."""
    known, after = classes_of(source), head_after(plan)
    if known is None or after is None:
        return ()
    have, names = names_in_order(Head(*known)), names_in_order(after)
    return names[len(have) :] if names[: len(have)] == have else ()


def other_outputs(role: str, theirs: int, mine: int) -> str:
    """Message for a model beside a run whose head says another number of things."""
    return f"--{role} knows {theirs} tokens or classes and --model {mine}; give one with the outputs of the model"


def check_oracle_head(plan: Plan, read: Read) -> None:
    """Refuse an oracle whose head is not the model's, as far as that shows without loading it.

    One that lacks the last classes was perhaps retrained without them, if no row of them stays.

    Raises:
        PlanError: says what its head lacks, or calls otherwise.
    """
    known = None if plan.oracle is None else classes_of(plan.oracle)
    after = head_after(plan)
    if known is None or after is None:
        return
    oracle = Head(*known)
    _check_order(plan, after, oracle)
    fewer = oracle.classes < after.classes and classes_beyond(str(plan.oracle), plan)
    if oracle.classes != after.classes and not fewer:
        raise PlanError(other_outputs("oracle", oracle.classes, after.classes))
    stays = class_numbers(read.examples.get("retain", ()), *after)
    lacking = [number for number in sorted(stays) if number >= oracle.classes]
    if lacking:
        raise PlanError(
            f"--oracle {plan.oracle} has no class {names_in_order(after)[lacking[0]]!r}, of which rows stay; give a "
            "model retrained on all that stays"
        )


def _check_order(plan: Plan, after: Head, oracle: Head) -> None:
    """A class that both heads name has the same name in both."""
    mine, theirs = ({number: name for name, number in head.names.items()} for head in (after, oracle))
    for number in sorted(mine.keys() & theirs.keys()):
        if mine[number] != theirs[number]:
            raise PlanError(
                f"--oracle {plan.oracle}: class {number} is {theirs[number]!r} there and {mine[number]!r} in --model; "
                "give one whose classes stand in the order of the model's"
            )


@contextmanager
def naming_growth(plan: Plan, name: str) -> Iterator[None]:
    """Say of a class that the head does not have how it could get it.

    Args:
        plan: of the run.
        name: of the set that is looked at.
    """
    try:
        yield
    except ClassError as error:
        if name != "learn" or plan.head is not None:
            raise
        raise ClassError(f"{error}; or --head grow, to add the classes of the rows to learn") from None


def grown(loaded: Loaded, plan: Plan) -> Loaded:
    """A model of a run, its base or its oracle with the classes of the run that it lacks; itself where it has them."""
    after = head_after(plan)
    if after is None or not loaded.family.has_classes:
        return loaded
    from palimpsest.models.grown_head import grow

    have, names = names_in_order(Head(loaded.num_outputs, loaded.class_names)), names_in_order(after)
    if have == names:
        return loaded
    if plan.head is not None and plan.head.kind == "new":
        return grow(loaded, names, fresh=True)
    return grow(loaded, names[len(have) :]) if names[: len(have)] == have else loaded


def grown_note(plan: Plan) -> tuple[str, ...]:
    """A note on what became of the head."""
    if plan.head is None:
        return ()
    added = plan.head.added
    listed = ", ".join(added[:10]) + (f" and {len(added) - 10} more" if len(added) > 10 else "")
    how = "is a new one, of" if plan.head.kind == "new" else "grew by"
    return (f"The head {how} {len(added)} class{'es' if len(added) > 1 else ''}: {listed}.",)


def _head_of(source: str) -> Head:
    found = classes_of(source)
    if found is None:
        raise PlanError(f"head: the classes of model {source} are not in its config; give a folder that has them there")
    return Head(*found)
