"""Classes of an image classifier: what a label means to it."""

from __future__ import annotations

from collections.abc import Mapping

from palimpsest.errors import DataError, unknown


def given_names(label2id: Mapping[str, int]) -> dict[str, int]:
    """Name -> class, without the names that transformers makes up.

    >>> given_names({"LABEL_0": 0, "cat": 1})
    {'cat': 1}
    """
    return {name: number for name, number in label2id.items() if name != f"LABEL_{number}"}


def class_number(label: int | str, num_classes: int, class_names: Mapping[str, int]) -> int:
    """The class that a label means to a model.

    Args:
        label: number or name.
        num_classes: of the model.
        class_names: name -> class; empty where the model's classes have no names.

    Raises:
        DataError: it has no such class.

    >>> class_number("cat", 2, {"dog": 0, "cat": 1}), class_number(0, 2, {})
    (1, 0)
    """
    if isinstance(label, str):
        if not class_names:
            raise DataError(
                f"class name {label!r} for a model whose classes have no names; accepted: 0 to {num_classes - 1}, as "
                "label or as name of the folder"
            )
        if label not in class_names:
            raise DataError(unknown("class name", label, class_names))
        return class_names[label]
    if not 0 <= label < num_classes:
        raise DataError(f"class {label}; accepted: 0 to {num_classes - 1}, the model's classes")
    return label
