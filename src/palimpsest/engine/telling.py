"""What stays, asked for the class of the rows of a run: by words, or by what images look like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from palimpsest.control.look_shadow import MOST_THAT_STAY, LookShadow
from palimpsest.control.told import ToldClasses
from palimpsest.control.word_shadow import WordShadow
from palimpsest.data.draws import shuffled
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.labelled import LabelSet


def told_of(sets: Mapping[str, Any]) -> ToldClasses | None:
    """Does what stays tell the class of each row? None of images that look no more like another class than unseen ones.

    Args:
        sets: encoded; without a holdout nothing is told.
    """
    if "holdout" not in sets:
        return None
    if isinstance(sets["forget"], ImageSet):
        found = _by_looks(sets)
        return found if found is not None and found.is_unlike else None
    return _by_words(sets) if isinstance(sets["forget"], LabelSet) else None


def class_by_id(examples: Any) -> dict[str, int]:
    """Id -> class, in the order of the set."""
    return dict(zip(examples.ids, examples.label_N.tolist(), strict=True))


def _by_looks(sets: Mapping[str, Any]) -> ToldClasses | None:
    staying = [
        sets[name].subset(shuffled(sets[name].ids, 0, f"{name}/looks", 0)[:MOST_THAT_STAY]) for name in _that_stay(sets)
    ]
    shadow = LookShadow(staying)
    return _told(sets, shadow.classes, shadow.tells, "the images that stay and look most like it")


def _by_words(sets: Mapping[str, Any]) -> ToldClasses | None:
    shadow = WordShadow(row for name in _that_stay(sets) for row in _of_labels(sets[name]))

    def tells(texts: LabelSet) -> dict[str, bool]:
        return dict(zip(texts.ids, (shadow.tells(*row) for row in _of_labels(texts)), strict=True))

    return _told(sets, shadow.classes, tells, "its words")


def _told(
    sets: Mapping[str, Any], classes: frozenset[int], tells: Callable[[Any], dict[str, bool]], by: str
) -> ToldClasses | None:
    """Of the rows whose class stays; None where there are none to forget, or none that were never seen."""
    known = [{i for i, label in class_by_id(sets[name]).items() if label in classes} for name in ("forget", "holdout")]
    if not all(known):
        return None
    forget, unseen = (sets[name].subset(ids) for name, ids in zip(("forget", "holdout"), known, strict=True))
    return ToldClasses(tells(forget), tells(unseen), class_by_id(unseen) | class_by_id(forget), by)


def _that_stay(sets: Mapping[str, Any]) -> list[str]:
    return [name for name in ("retain", "replay") if name in sets]


def _of_labels(texts: LabelSet) -> Iterator[tuple[Sequence[int], int]]:
    """Tokens and class of each text, in the order of the set."""
    return ((texts[i].tokens, label) for i, label in class_by_id(texts).items())
