"""Which rows of one set are to be forgotten: by whose they are, by id, or by class. All others are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from palimpsest.data.read.classes import number_or_name, own_label, with_own
from palimpsest.data.read.spelling import folded_name, spelled_out
from palimpsest.errors import DataError
from palimpsest.records import Example, Image, Labelled, content_id

_SHOWN_NAMES = 12
_SHOWN_PROBLEMS = 4


@dataclass(frozen=True)
class Selection:
    """What to forget; a row that matches any of it is meant.

    Attributes:
        subjects: whose rows, spelled exactly as in the data.
        ids: of rows.
        classes: of images, by number or by a name that the data or the model have.
    """

    subjects: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    classes: tuple[int | str, ...] = ()

    def __bool__(self) -> bool:
        """Is anything named?"""
        return bool(self.subjects or self.ids or self.classes)


def select(
    examples: Sequence[Example],
    selection: Selection,
    class_names: Mapping[str, int] | None = None,
    *,
    source: str = "the data",
) -> tuple[list[Example], list[Example]]:
    """Divide a set into what is to be forgotten and what is kept.

    Args:
        examples: ids unique.
        selection: what to forget.
        class_names: the model's, name -> number, so that "cat" and 3 are one class.
        source: where the examples are from, for the error.

    Returns:
        Forget and retain, each in the order of the set; retain is empty where every row is meant.

    Raises:
        DataError: nothing is named, a name comes twice, or no row has it; with the closest name there is.
    """
    if not selection:
        raise DataError(f"{source}: nothing to forget is named; give --forget-subject, --forget-id or --forget-class")
    names = with_own(_own_names(examples), class_names or {})
    problems = list(_problems(examples, selection, names))
    if problems:
        more = f"; and {len(problems) - _SHOWN_PROBLEMS} more like these" if len(problems) > _SHOWN_PROBLEMS else ""
        raise DataError(f"{source}: {'; '.join(problems[:_SHOWN_PROBLEMS])}{more}")
    meant = _meant_by(selection, names)
    forget: list[Example] = []
    retain: list[Example] = []
    for example in examples:
        (forget if meant(example) else retain).append(example)
    return forget, retain


def _own_names(examples: Iterable[Example]) -> dict[str, int]:
    """The names by which a dataset calls the numbers of its classes."""
    images = (example.content for example in examples if isinstance(example.content, Image))
    return {i.spelled: i.label for i in images if i.spelled is not None and isinstance(i.label, int)}


def _meant_by(selection: Selection, class_names: Mapping[str, int]) -> Callable[[Example], bool]:
    subjects, ids = frozenset(selection.subjects), frozenset(selection.ids)
    classes = frozenset(number_or_name(label, class_names) for label in selection.classes)

    def is_meant(example: Example) -> bool:
        content = example.content
        label = own_label(content, class_names) if isinstance(content, Image | Labelled) else None
        in_class = label is not None and number_or_name(label, class_names) in classes
        return in_class or example.subject in subjects or example.id in ids

    return is_meant


def _problems(examples: Sequence[Example], selection: Selection, class_names: Mapping[str, int]) -> Iterator[str]:
    yield from _twice("--forget-subject", selection.subjects)
    yield from _twice("--forget-id", selection.ids)
    yield from _twice("--forget-class", selection.classes, [number_or_name(c, class_names) for c in selection.classes])
    yield from _absent_subjects(examples, selection.subjects)
    yield from _absent_ids(examples, selection.ids)
    yield from _absent_classes(examples, selection.classes, class_names)


def _absent_subjects(examples: Sequence[Example], subjects: Iterable[str]) -> Iterator[str]:
    known = {example.subject for example in examples if example.subject is not None}
    for subject in subjects:
        if subject not in known:
            yield _absent("subject", subject, known, "no row has one: say what holds it, --column subject=COLUMN")


def _absent_ids(examples: Sequence[Example], ids: Iterable[str]) -> Iterator[str]:
    known = {example.id for example in examples}
    for example_id in ids:
        if example_id not in known:
            # A derived id is nothing that anybody would have typed.
            given = {e.id for e in examples if len(e.id) < 64 or e.id != content_id(e.content)}
            yield _absent("id", example_id, given, "no row has one of its own: say what holds it, --column id=COLUMN")


def _absent_classes(
    examples: Sequence[Example], classes: Iterable[int | str], class_names: Mapping[str, int]
) -> Iterator[str]:
    labels = {own_label(e.content, class_names) for e in examples if isinstance(e.content, Image | Labelled)}
    numbers = {number_or_name(label, class_names) for label in labels}
    spelled = [*map(str, sorted(labels, key=_order)), *(n for n, c in class_names.items() if c in numbers)]
    for label in classes:
        if number_or_name(label, class_names) not in numbers:
            yield _absent("class", str(label), spelled, "only images have one: of texts name --forget-subject")


def _order(label: int | str) -> tuple[bool, int | str]:
    return isinstance(label, str), label


def _twice(flag: str, names: Sequence[int | str], keys: Sequence[int | str] | None = None) -> Iterator[str]:
    keys = names if keys is None else keys
    for key, count in Counter(keys).items():
        if count > 1:
            spellings = dict.fromkeys(str(name) for name, its in zip(names, keys, strict=True) if its == key)
            yield f"{flag} names {' and '.join(map(repr, spellings))} {count} times; name it once"


def _absent(what: str, name: str, known: Iterable[str], none: str) -> str:
    names = list(dict.fromkeys(known)) if isinstance(known, list) else sorted(known)
    if not names:
        return f"no row has the {what} {name!r}; {none}"
    alike = [other for other in names if _folded(other) == _folded(name)]
    close = alike or get_close_matches(name, names, n=1, cutoff=0.5)
    differs = f", which differs in {_difference(close[0], name)}" if alike else ""
    hint = f"did you mean {close[0]!r}{differs}? " if close else ""
    shown = ", ".join(map(repr, names[:_SHOWN_NAMES]))
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"no row has the {what} {name!r}; {hint}there {'are' if len(names) > 1 else 'is'} {shown}{more}"


def _difference(one: str, other: str) -> str:
    """In what two names differ that are written alike: code points, where nothing of it can be seen."""
    if "".join(one.casefold().split()) == "".join(other.casefold().split()):
        return "case or blanks"
    return f"its characters, {one!a} for {other!a}"


def _folded(name: str) -> str:
    """A name as it is heard: without blanks, too."""
    return "".join(folded_name(name).split())


def written_alike(retained: Iterable[Example], selection: Selection) -> str | None:
    """A note where rows stay whose subject is written almost as one that must go: perhaps the same person.

    >>> from palimpsest.records import Text
    >>> rows = [Example("1", Text("a"), "ann lee"), Example("2", Text("b"), "Bob")]
    >>> written_alike(rows, Selection(("Ann Lee",)))
    "kept, though its subject is written almost as one to forget: 'ann lee' (1 row); if it is the same, name it too"
    """
    meant = {_folded(name) for name in selection.subjects}
    near = Counter(e.subject for e in retained if e.subject is not None and _folded(e.subject) in meant)
    if not near:
        return None
    names = [
        f"{spelled_out(name)} ({count} row{'s' if count > 1 else ''})" for name, count in near.most_common(_SHOWN_NAMES)
    ]
    return (
        f"kept, though its subject is written almost as one to forget: {', '.join(names)}; if it is the same, name it "
        "too"
    )
