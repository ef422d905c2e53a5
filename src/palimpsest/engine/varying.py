"""The rows to forget in other sentences, where the plan asks for it: what a method is shown, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palimpsest.derived.diversified import diversified
from palimpsest.errors import DataError, PlanError
from palimpsest.in_words import so_many
from palimpsest.records import Example

if TYPE_CHECKING:
    from palimpsest.engine.plan import Plan
    from palimpsest.models.load import Loaded


def check_varied(plan: Plan, takes: str) -> None:
    """Refuse other sentences of what has none.

    Args:
        plan: resolved.
        takes: what the family of its model takes.

    Raises:
        PlanError: there is nothing to forget, or it is pictures.
    """
    if not plan.diversify:
        return
    if "forget" not in plan.files:
        raise PlanError("diversify rewrites what is forgotten, and nothing is; leave --diversify out, or give --forget")
    if takes == "image":
        raise PlanError(f"diversify rewrites sentences and model {plan.model} takes pictures; leave --diversify out")


def sentence_notes(plan: Plan, examples: Mapping[str, Sequence[Example]]) -> tuple[str, ...]:
    """How many rows to forget have no sentence that could be put otherwise, where the plan asks for other sentences."""
    if not plan.diversify:
        return ()
    forms = diversified(examples["forget"], plan.diversify, plan.training.seed)
    bare = [name for name, found in forms.items() if not found]
    if not bare:
        return ()
    which = f"{len(bare)} of {so_many(len(forms), 'row')} to forget"
    return (f"{which} have no sentence to put otherwise (first: {bare[0]!r}); they were shown as they are.",)


def with_forms(
    plan: Plan, loaded: Loaded, sets: Mapping[str, Any], examples: Mapping[str, Sequence[Example]]
) -> Mapping[str, Any]:
    """The sets, the forget set in as many further forms as the plan asks for; the very sets where it asks for none.

    Args:
        plan: resolved.
        loaded: the model that changes.
        sets: encoded.
        examples: that they were made of.

    Raises:
        PlanError: the rows are token ids, or too long for a sentence more.
    """
    if not plan.diversify:
        return sets
    from palimpsest.data.encode.varied import VariedSet
    from palimpsest.engine.inputs import encode_set

    rows = list(examples["forget"])
    forms = diversified(rows, plan.diversify, plan.training.seed)
    if not any(forms.values()):
        raise PlanError("diversify rewrites sentences, and no row of the forget set has any; leave --diversify out")
    try:
        encoded = encode_set([*rows, *(form for some in forms.values() for form in some)], loaded, plan.encoding)
    except DataError as error:
        raise DataError(f"{error}; of rows in other sentences (leave --diversify out, or give --truncate)") from None
    names = {row.id: (row.id, *(form.id for form in forms[row.id])) for row in rows}
    return {**sets, "forget": VariedSet(sets["forget"], encoded, names)}
