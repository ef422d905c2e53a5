"""Pictures of different folders under one name: told apart before their sets meet, because a run knows rows by id.

The id of a picture in a folder is its path there, and exports number the files of every class from 0: one name says
nothing about another folder. What counts is the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from palimpsest.records import Content, Example, Image

_KEEP_THEIR_NAMES = ("forget", "learn")  # by which a model's record knows them


def told_apart(sets: Mapping[str, Sequence[Example]]) -> tuple[dict[str, list[Example]], tuple[str, ...]]:
    """Sets in which two different pictures of two folders never have one id, and what was called otherwise for that.

    Args:
        sets: name -> examples, ids unique within each.

    Returns:
        The sets, each with its name before the path of a picture whose path is the id of another one elsewhere; forget
        and learn keep theirs where they can. And a note for each set that was changed.
    """
    order = sorted(sets, key=lambda name: name not in _KEEP_THEIR_NAMES)
    taken: dict[str, Content] = {}
    found: dict[str, list[Example]] = {}
    notes = []
    for name in order:
        found[name] = []
        for example in sets[name]:
            found[name].append(_apart(example, name, taken))
            taken.setdefault(found[name][-1].id, example.content)
        changed = [(old, new) for old, new in zip(sets[name], found[name], strict=True) if old.id != new.id]
        if changed:
            old, new = changed[0]
            count = f"{len(changed)} pictures have the names" if len(changed) > 1 else "1 picture has the name"
            notes.append(f"{name}: {count} of other pictures, and another id here (first: {old.id} is {new.id})")
    return {name: found[name] for name in sets}, tuple(notes)


def _apart(example: Example, name: str, taken: Mapping[str, Content]) -> Example:
    other = taken.get(example.id)
    if other is None or not is_named_by_place(example) or is_same_picture(example.content, other):
        return example
    new = f"{name}/{example.id}"
    while new in taken:
        new = f"{name}/{new}"
    return replace(example, id=new)


def is_named_by_place(example: Example) -> bool:
    """Is it a picture of a folder, whose id is its path there?"""
    here = Path(example.where).as_posix()
    return isinstance(example.content, Image) and (here == example.id or here.endswith(f"/{example.id}"))


def is_same_picture(one: Content, other: Content) -> bool:
    """Have two contents the same pixels, under whatever class?"""
    both = isinstance(one, Image) and isinstance(other, Image)
    return both and (one.shape, one.pixels) == (other.shape, other.pixels)  # type: ignore[union-attr]
