"""Classes that a head does not have yet, of the labels of rows to learn: which, in what order, and under what names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from palimpsest.data.read.classes import ClassNames, own_label
from palimpsest.data.read.spelling import folded_name, spelled_out
from palimpsest.errors import DataError
from palimpsest.records import Example, Image, Labelled


class Head(NamedTuple):
    """What a head says; ``NEW_HEAD`` is one that says nothing yet.

    Attributes:
        classes: how many.
        names: of them; a class without one is known by its number.
    """

    classes: int
    names: ClassNames


NEW_HEAD = Head(0, ClassNames({}))


def names_in_order(head: Head) -> tuple[str, ...]:
    """A name for each class: its own, or its number."""
    own = {number: name for name, number in head.names.items()}
    own |= {number: name for name, numbers in head.names.shared.items() for number in numbers}
    return tuple(own.get(number, str(number)) for number in range(head.classes))


def new_classes(examples: Iterable[Example], head: Head) -> tuple[str, ...]:
    """Names of the classes of some rows that a head does not have, in order of first appearance.

    A number is the name of a class where all names are numbers; else, of a head whose classes have names, its row.

    Args:
        examples: with labels.
        head: as it is; ``NEW_HEAD`` where it is to be a new one.

    Raises:
        DataError: one class under two spellings, or a number that names no row of a head with names.

    >>> rows = [Example(str(n), Labelled("", label)) for n, label in enumerate(["b", "c", "a", "c"])]
    >>> new_classes(rows, Head(1, ClassNames({"a": {0}}))), new_classes(rows, NEW_HEAD)
    (('b', 'c'), ('b', 'c', 'a'))
    """
    there = names_in_order(head)
    known = {_plainly(name): name for name in there}
    numbered = all(map(_is_number, there))
    found: dict[str, None] = {}
    for example in examples:
        name = _name_of(example, head, numbered)
        if name is None or name in found:
            continue
        spelled = known.setdefault(_plainly(name), name)
        if spelled != name:
            raise DataError(
                f"{example.name}: class {spelled_out(name)}, and another is called {spelled_out(spelled)}; accepted: "
                "one spelling each"
            )
        if name not in there:
            found[name] = None
    _check_one_kind(found, numbered=numbered, there=there)
    return tuple(found)


def head_with(head: Head, added: Sequence[str]) -> Head:
    """A head with further classes; numbers are names where all its names are.

    >>> head_with(Head(1, ClassNames({})), ["5"]).names
    {'0': 0, '5': 1}
    """
    names = (*names_in_order(head), *added)
    numbers: dict[str, set[int]] = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, set()).add(number)
    return Head(len(names), ClassNames(numbers, by_name=all(map(_is_number, names))))


def _name_of(example: Example, head: Head, numbered: bool) -> str | None:
    """The name of a row's class; None of a row that the head has, by its number."""
    content = example.content
    if not isinstance(content, Image | Labelled):
        return None
    label = own_label(content, head.names)
    if isinstance(label, int) and not numbered and not 0 <= label < head.classes:
        raise DataError(
            f"{example.name}: class {label} of a model that names its classes; accepted: a new class by name"
        )
    return None if isinstance(label, int) and not numbered else str(label)


def _check_one_kind(found: Iterable[str], *, numbered: bool, there: Sequence[str]) -> None:
    """A head whose classes are numbers gets no names, or numbers would mean rows from then on."""
    named = next((name for name in found if not _is_number(name)), None)
    if there and numbered and named is not None:
        raise DataError(
            f"class {named!r} for a head whose {len(there)} classes are numbers; accepted: numbers, or give "
            "the model's config names for its classes (id2label)"
        )


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _plainly(name: str) -> str:
    """What two spellings of one class have in common.

    >>> _plainly(" Cat") == _plainly("cat"), _plainly("07") == _plainly("7"), _plainly("ice cream")
    (True, True, 'ice cream')
    """
    bare = " ".join(folded_name(name).split())
    return str(int(bare)) if _is_number(bare) else bare
