"""Classes that are to go whole: those of a forget set that the retain set has no example of."""

from __future__ import annotations

from typing import Any


def gone_classes(forget: Any, retain: Any) -> tuple[int, ...]:
    """Their numbers; none for texts, whose rows have no class, or where only single examples go.

    Args:
        forget: a set; one of classes has ``label_N``.
        retain: of the same kind.
    """
    going, staying = (_labels(_bare(examples)) for examples in (forget, retain))
    return tuple(sorted(going - staying)) if going and staying else ()


def _bare(examples: Any) -> Any:
    return getattr(examples, "bare", examples)


def _labels(examples: Any) -> set[int]:
    labels = getattr(examples, "label_N", None)
    return set() if labels is None else set(labels.tolist())
