"""Classes that a head told before a run and, without a word of its request, does not tell after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palimpsest.data.read.new_classes import Head, names_in_order
from palimpsest.engine.plan import Plan
from palimpsest.models.loaded import Loaded
from palimpsest.models.parts import parts_of


def told_before(loaded: Loaded, plan: Plan) -> frozenset[int]:
    """Numbers of the classes that the model of a run tells before it; those that its head just got are not told yet."""
    if not loaded.family.has_classes or (plan.head is not None and plan.head.kind == "new"):
        return frozenset()
    return _told(loaded) - set(range(loaded.num_outputs)[-len(plan.head.added) :] if plan.head else ())


def lost_note(before: frozenset[int], sets: Mapping[str, Any], saved: Loaded) -> tuple[str, ...]:
    """A note on classes that are not told any more, beside those that were to be forgotten.

    Args:
        before: what was told.
        sets: encoded.
        saved: what the run made.
    """
    lost = before - _told(saved) if before else frozenset()
    if "forget" in sets and lost:
        lost -= set(sets["forget"].label_N.tolist())
    if not lost:
        return ()
    names = names_in_order(Head(saved.num_outputs, saved.class_names))
    listed = ", ".join(names[number] for number in sorted(lost)[:10])
    more = f" and {len(lost) - 10} more" if len(lost) > 10 else ""
    which = "Class" if len(lost) == 1 else "Classes"
    return (
        f"{which} {listed}{more}: known before and never predicted any more, because the new head tells only classes "
        "whose rows it counted; give rows of them, too (--replay FILE).",
    )


def _told(loaded: Loaded) -> frozenset[int]:
    """All that the head has, or what a part that answers in its place has rows of."""
    masks: list[Any] = [part.present_C for part in parts_of(loaded.model) if hasattr(part, "present_C")]
    return frozenset(masks[-1].nonzero().flatten().tolist() if masks else range(loaded.num_outputs))
