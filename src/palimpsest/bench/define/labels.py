"""Classes of examples: whose they are, and one spelling of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from palimpsest.data.read.classes import number_or_name, own_label
from palimpsest.data.streams.tasks import Task, split_by_class, split_by_subject
from palimpsest.errors import DataError
from palimpsest.records import Example, Image, Labelled

ClassLabel = str | int | None


def label_of(example: Example) -> ClassLabel:
    """Class of an image or of a text that has one, or whose text it is."""
    return example.content.label if isinstance(example.content, Image | Labelled) else example.subject


def tasks_of_classes(
    examples: Collection[Example], per_task: int, *, first: int | None = None, order: int | None = None
) -> tuple[Task, ...]:
    """Tasks of so many classes each, or of so many subjects where not all examples have a class.

    Args:
        examples: of the data.
        per_task: classes of a task.
        first: of the first one; None = as many.
        order: seed that shuffles the classes; None leaves their natural order.

    Raises:
        PlanError: they do not divide.
        DataError: an example without a class or subject.
    """
    labels = {e.id: e.content.label for e in examples if isinstance(e.content, Image | Labelled)}
    if len(labels) == len(examples):
        return split_by_class(labels, per_task, first=first, seed=order)
    return split_by_subject({example.id: example.subject for example in examples}, per_task, first=first, seed=order)


def spelled_alike(sets: Mapping[str, Sequence[Example]], model: str) -> dict[str, list[Example]]:
    """The sets with classes by number, where some come by number and some by name: "3" and "cat" may be one class.

    Args:
        sets: by name; returned as they are where all classes are spelled one way, and where they hold no images.
        model: whose config numbers the names; a name that it does not have is left, for the encoder to refuse.
    """
    images = (e.content for examples in sets.values() for e in examples if isinstance(e.content, Image))
    if len({(type(image.label), image.spelled is None) for image in images}) < 2:
        return {name: list(examples) for name, examples in sets.items()}
    from palimpsest.models.load import load  # with torch, which early checks of a bench do without

    numbers = load(model).class_names
    return {name: [_numbered(example, numbers) for example in examples] for name, examples in sets.items()}


def _numbered(example: Example, numbers: Mapping[str, int]) -> Example:
    content = example.content
    if not isinstance(content, Image):
        return example
    label = number_or_name(own_label(content, numbers), numbers)
    return replace(example, content=replace(content, label=label, spelled=None))


def check_tested(test: Iterable[Example], data: Iterable[Example]) -> None:
    """Refuse a test set whose classes (or subjects) are none of the data's; examples without one always serve.

    Raises:
        DataError: one class of each.
    """
    theirs, ours = _labels(test), _labels(data)
    if theirs and theirs.isdisjoint(ours):
        raise DataError(
            f"--test: its classes or subjects (such as {_first(theirs)!r}) are none of the data's (such as "
            f"{_first(ours)!r}), so nothing would be tested; accepted: examples of the same, or without any"
        )


def _labels(examples: Iterable[Example]) -> set[str | int]:
    return {label for example in examples if (label := label_of(example)) is not None}


def _first(labels: Collection[str | int]) -> str | int | None:
    return min(labels, key=str, default=None)
