"""Classes of a classifier: what a label means to it. Its own names come first, numbers after them.

A head that grew by labels that are numbers (``models/grown_head.py``) has its classes in the order in which they came,
so that its names are those numbers and say which row is meant; its config marks it by ``NUMBERS_ARE_NAMES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from palimpsest.errors import ClassError, DataError, unknown
from palimpsest.records import Example, Image, Labelled

NUMBERS_ARE_NAMES = "palimpsest_numbers_are_names"
"""Key of a config: a number as label is the name of a class, not its row."""
_DIGITS = 18


class ClassNames(dict[str, int]):
    """Name -> class, of the names that mean one class.

    Attributes:
        shared: name -> its classes, of those that a config gives to several.
        by_name: a number as label is the name of a class.
    """

    def __init__(self, numbers: Mapping[str, set[int]], *, by_name: bool = False) -> None:
        """Names and the classes that have them."""
        self.by_name = by_name
        super().__init__({name: min(found) for name, found in numbers.items() if len(found) == 1})
        self.shared = {name: sorted(found) for name, found in numbers.items() if len(found) > 1}


def names_of_config(config: Mapping[str, object]) -> ClassNames:
    """The names that a config gives its classes; timm's has them as a list, label_names.

    >>> names_of_config({"label_names": ["cat", "LABEL_1"]})
    {'cat': 0}
    >>> names_of_config({"id2label": {"0": "7", "1": "3"}, NUMBERS_ARE_NAMES: True}).by_name
    True
    """
    by_name = config.get(NUMBERS_ARE_NAMES) is True
    names = config.get("label_names")
    listed = dict(enumerate(names)) if isinstance(names, list) else None
    return given_names(config.get("label2id"), config.get("id2label") or listed, by_name=by_name)


def given_names(label2id: object, id2label: object = None, *, by_name: bool = False) -> ClassNames:
    """The names that a config gives its classes, in either direction, without those that transformers makes up.

    Args:
        label2id: name -> number, which may be written as text; anything else names nothing.
        id2label: the reverse; it may have holes, and one name twice.
        by_name: numbers as labels are names.

    >>> given_names({"LABEL_0": 0, "cat": "1"})
    {'cat': 1}
    >>> names = given_names({"crane": 2}, {"0": "crane", "1": "cat", "2": "crane"})
    >>> names, names.shared
    ({'cat': 1}, {'crane': [0, 2]})
    """
    found: dict[str, set[int]] = {}
    for name, number in (*_pairs(label2id), *((name, number) for number, name in _pairs(id2label))):
        value = _number_of(number)
        if value is not None and str(name) != f"LABEL_{value}":
            found.setdefault(str(name), set()).add(value)
    return ClassNames(found, by_name=by_name)


def _pairs(mapping: object) -> Iterator[tuple[object, object]]:
    yield from mapping.items() if isinstance(mapping, Mapping) else ()


def _number_of(value: object) -> int | None:
    """The number of a class, however a config writes it; None where it is none."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _DIGITS:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def with_own(own: Mapping[str, int], class_names: Mapping[str, int]) -> ClassNames:
    """The names that a dataset has for its numbers, and those of a model, which come first."""
    numbers = {name: {number} for name, number in {**own, **class_names}.items()}
    return ClassNames(numbers, by_name=_by_name(class_names))


def own_label(content: Image | Labelled, class_names: Mapping[str, int]) -> int | str:
    """A class as it is asked for: of an image by the spelling of its source where that is a name, else by its label.

    >>> own_label(Image(b"", (0, 0, 1), 10, spelled="10"), {"10": 1})
    '10'
    """
    spelled = content.spelled if isinstance(content, Image) else None
    if spelled is not None and (spelled in class_names or spelled in _shared(class_names)):
        return spelled
    return content.label


def number_or_name(label: int | str, class_names: Mapping[str, int]) -> int | str:
    """One spelling of a class: its number if there is one.

    >>> number_or_name("10", {"10": 1}), number_or_name("10", {}), number_or_name("cat", {})
    (1, 10, 'cat')
    """
    if isinstance(label, int):
        return class_names.get(str(label), str(label)) if _by_name(class_names) else label
    number = class_names.get(label, _number_of(label))
    return label if number is None else number


def _by_name(class_names: Mapping[str, int]) -> bool:
    return isinstance(class_names, ClassNames) and class_names.by_name


def _shared(class_names: Mapping[str, int]) -> Mapping[str, list[int]]:
    return class_names.shared if isinstance(class_names, ClassNames) else {}


def class_number(label: int | str, num_classes: int, class_names: Mapping[str, int]) -> int:
    """The class that a label means to a model: one of its names, else a number.

    Args:
        label: number or name, or a number as text.
        num_classes: of the model.
        class_names: name -> class; empty where the model's classes have no names.

    Raises:
        DataError: it has no such class, or several of that name.

    >>> class_number("cat", 2, {"dog": 0, "cat": 1}), class_number("1", 2, {"1": 0}), class_number("1", 2, {})
    (1, 0, 1)
    """
    if _by_name(class_names) and str(label) not in class_names:
        raise ClassError(f"class {label} is not one of the model's; {_accepted_names(class_names)}")
    label = str(label) if _by_name(class_names) else label
    number = _numbered(label, num_classes, class_names) if isinstance(label, str) else label
    if not 0 <= number < num_classes:
        named = f" ({label!r})" if label != number else ""
        raise ClassError(f"class {number}{named}; accepted: 0 to {num_classes - 1}, the model's classes")
    return number


def class_numbers(rows: Iterable[Example], num_classes: int, class_names: Mapping[str, int]) -> frozenset[int]:
    """The classes that some rows are of, by their numbers; none of rows without a class.

    Raises:
        DataError: as ``class_number``.
    """
    contents = [row.content for row in rows if isinstance(row.content, Image | Labelled)]
    return frozenset(class_number(own_label(content, class_names), num_classes, class_names) for content in contents)


def _accepted_names(class_names: Mapping[str, int]) -> str:
    listed = sorted(class_names, key=class_names.__getitem__)
    more = f" and {len(listed) - 12} more" if len(listed) > 12 else ""
    return f"accepted: {', '.join(listed[:12])}{more}"


def _numbered(name: str, num_classes: int, class_names: Mapping[str, int]) -> int:
    if name in class_names:
        return class_names[name]
    if name in _shared(class_names):
        numbers = " and ".join(map(str, _shared(class_names)[name]))
        raise DataError(f"class name {name!r} is that of the model's classes {numbers}; accepted: one of these numbers")
    number = _number_of(name)
    if number is not None:
        return number
    if not class_names:
        raise ClassError(
            f"class name {name!r} for a model whose classes have no names; accepted: 0 to {num_classes - 1}, as "
            "label or as name of the folder"
        )
    raise ClassError(unknown("class name", name, class_names))
