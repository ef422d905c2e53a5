"""Tasks of a stream: groups of example ids, each id with a class, made from metadata alone.

Class-incremental: every task brings new classes (``split_by_class``). Task- and domain-incremental: the groups are
given (``by_domain``), or made of whole subjects such as persons or authors (``split_by_subject``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from palimpsest.data.draws import shuffled
from palimpsest.errors import DataError, PlanError, unknown

Label = str | int
NAMED = 3  # labels that a task's name lists before it names only the first and the last


@dataclass(frozen=True)
class Task:
    """Examples that are learned together.

    Attributes:
        name: unique among the tasks of a stream.
        labels: example id -> its class (or subject); the ids in the order of the data.
    """

    name: str
    labels: Mapping[str, str]

    @property
    def ids(self) -> tuple[str, ...]:
        """Of its examples."""
        return tuple(self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Its classes, in the order of their first example."""
        return tuple(dict.fromkeys(self.labels.values()))

    def of_class(self, label: str) -> tuple[str, ...]:
        """Ids of one class.

        Raises:
            DataError: the task has no such class.
        """
        if label not in self.classes:
            raise DataError(unknown(f"class of task {self.name!r}", label, self.classes))
        return tuple(i for i, own in self.labels.items() if own == label)


def pool_of(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Ids of all tasks, in order.

    Raises:
        DataError: there are no tasks, or two of one name; shared ids are for the stream to refuse.
    """
    if not tasks or len({task.name for task in tasks}) < len(tasks):
        names = ", ".join(task.name for task in tasks)
        raise DataError(f"the tasks are: {names or 'none'}; accepted: at least one, each with a name of its own")
    return tuple(i for task in tasks for i in task.ids)


def split_by_class(
    labels: Mapping[str, Label],
    classes_per_task: int,
    *,
    classes: Sequence[Label] | None = None,
    seed: int | None = None,
    first: int | None = None,
) -> tuple[Task, ...]:
    """Tasks of equally many classes, but for the first if it is said.

    Args:
        labels: example id -> class.
        classes_per_task: >= 1; it divides the number of classes, or what the first task leaves of it.
        classes: those to use, in this order; all of them in their natural order if not given.
        seed: shuffles the order of the classes; None leaves it.
        first: classes of the first task; None = as of the others.

    Raises:
        DataError: a class that does not exist or is named twice.
        PlanError: the classes cannot be divided so.
    """
    return _split(labels, _Sizes(classes_per_task, first), classes, seed, what="class")


def split_by_subject(
    subjects: Mapping[str, str | None],
    subjects_per_task: int = 1,
    *,
    chosen: Sequence[str] | None = None,
    seed: int | None = None,
    first: int | None = None,
) -> tuple[Task, ...]:
    """Tasks of equally many subjects, whose names are the classes.

    Args:
        subjects: example id -> subject.
        subjects_per_task: >= 1; it divides the number of subjects.
        chosen: those to use, in this order; all of them in alphabetic order if not given.
        seed: shuffles the order of the subjects; None leaves it.
        first: subjects of the first task; None = as of the others.

    Raises:
        DataError: a subject that does not exist or is named twice, or an example without one.
        PlanError: the subjects cannot be divided so.
    """
    known = {i: subject for i, subject in subjects.items() if subject is not None}
    if nobody := [i for i in subjects if i not in known]:
        share = f"{len(nobody)} of {len(subjects)} examples have no subject (first: {nobody[0]!r})"
        raise DataError(f"{share}; accepted: a subject for each, so leave these out or name theirs")
    return _split(known, _Sizes(subjects_per_task, first), chosen, seed, what="subject")


def by_domain(
    groups: Mapping[str, Iterable[str]], *, labels: Mapping[str, Label] | None = None, seed: int | None = None
) -> tuple[Task, ...]:
    """Given groups as tasks.

    Args:
        groups: task name -> ids of its examples; no id in two groups.
        labels: example id -> class; the name of its group if not given.
        seed: shuffles the order of the groups; None leaves it.

    Raises:
        DataError: there is no group or an empty one, an id is in two, or an id has no label.
    """
    if not groups:
        raise DataError("no groups; accepted: at least one, of at least one id")
    owner: dict[str, str] = {}
    tasks = {name: Task(name, _claimed(name, ids, owner, labels)) for name, ids in groups.items()}
    return tuple(tasks[name] for name in _ordered(list(tasks), seed, "domain"))


def _claimed(
    name: str, ids: Iterable[str], owner: dict[str, str], labels: Mapping[str, Label] | None
) -> dict[str, str]:
    """Labels of one group's ids, which no group before it owns."""
    mine: dict[str, str] = {}
    for i in ids:
        if i in owner:
            raise DataError(f"id {i!r} is in group {owner[i]!r} and again in {name!r}; accepted: each id once")
        if labels is not None and i not in labels:
            raise DataError(f"id {i!r} of group {name!r} has no label; accepted: a label for each id")
        owner[i] = name
        mine[i] = name if labels is None else str(labels[i])
    if not mine:
        raise DataError(f"group {name!r} is empty; accepted: groups of at least one id")
    return mine


class _Sizes(NamedTuple):
    """How many labels a task has, and the first one."""

    per_task: int
    first: int | None

    def cut(self, order: Sequence[str], what: str) -> list[Sequence[str]]:
        """Labels in order as tasks."""
        first = self.first or 0
        if first > len(order):
            raise PlanError(
                f"a first task of {first} cannot be made of {len(order)} ({what}); accepted: at most so many"
            )
        rest = order[first:]
        if rest or not first:
            _check_division(len(rest), self.per_task, what, whole=not first)
        groups = [rest[start : start + self.per_task] for start in range(0, len(rest), self.per_task)]
        return [order[:first], *groups] if first else groups


def _split(
    labels: Mapping[str, Label], sizes: _Sizes, chosen: Sequence[Label] | None, seed: int | None, *, what: str
) -> tuple[Task, ...]:
    # Numbers come before words, each in its own order.
    natural = sorted(set(labels.values()), key=lambda label: (isinstance(label, str), label))
    present = [str(label) for label in natural]
    wanted = present if chosen is None else [str(label) for label in chosen]
    _check_wanted(wanted, present, what)
    return tuple(
        Task(_name(group), {i: str(label) for i, label in labels.items() if str(label) in group})
        for group in sizes.cut(_ordered(wanted, seed, what), what)
    )


def _check_wanted(wanted: Sequence[str], present: Sequence[str], what: str) -> None:
    if strangers := [label for label in wanted if label not in present]:
        raise DataError(unknown(what, strangers[0], present))
    if len(set(wanted)) < len(wanted):
        raise DataError(f"a {what} is named twice in {', '.join(wanted)}; accepted: each once")


def _check_division(count: int, per_task: int, what: str, *, whole: bool) -> None:
    if per_task >= 1 and count and count % per_task == 0:
        return
    divisors = [str(n) for n in range(1, count + 1) if count % n == 0]
    accepted = f"accepted: {', '.join(divisors)}" if count else f"accepted: data with at least one {what}"
    left = f", or a first task of {count % per_task}" if whole and 1 <= per_task < count else ""
    raise PlanError(f"{per_task} per task cannot be made of {count} ({what}); {accepted}{left}")


def _ordered(names: Sequence[str], seed: int | None, what: str) -> list[str]:
    return list(names) if seed is None else shuffled(names, seed, f"tasks/{what}", 0)


def _name(group: Sequence[str]) -> str:
    return "+".join(group) if len(group) <= NAMED else f"{group[0]}..{group[-1]}"
