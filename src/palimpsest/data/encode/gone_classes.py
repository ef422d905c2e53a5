"""Classes that are to go whole: those of a forget set that the retain set has no example of."""

from __future__ import annotations

from typing import Any

from palimpsest.data.encode.any_set import labels_of


def gone_classes(forget: Any, retain: Any) -> tuple[int, ...]:
    """Their numbers; none for texts, whose rows have no class, or where only single examples go.

    Args:
        forget: a set; one of classes has ``label_N``.
        retain: of the same kind.
    """
    going, staying = (set(labels_of(examples).tolist()) for examples in (forget, retain))
    return tuple(sorted(going - staying)) if staying else ()
