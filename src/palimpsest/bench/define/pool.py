"""The examples of a bench by id, their classes, and the stream that is made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from palimpsest.bench.define.config import Bench, StreamChoice
from palimpsest.bench.define.labels import ClassLabel, check_tested, label_of, spelled_alike, tasks_of_classes
from palimpsest.bench.define.situations import Situation
from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout
from palimpsest.data.sets.same_names import told_apart
from palimpsest.data.sets.splits import check_disjoint, check_unique
from palimpsest.data.streams import scenarios
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.scenario import StreamMaterial
from palimpsest.data.streams.tasks import Task, by_domain
from palimpsest.errors import DataError, PlanError, unknown
from palimpsest.models.bound import check_bound
from palimpsest.models.sources import check_source, family_of
from palimpsest.records import Example, Image, content_id, digest
from palimpsest.untrusted import parse_json

SAVED_STREAM = "FILE.json"
"""Stands in lists of streams for those that are in a file."""


@dataclass(frozen=True)
class Pool:
    """Examples by id.

    Attributes:
        data: what the stream is made of.
        files: id -> the file it is from, of the data.
        test: what no model learns.
        replay: what is always in the memory.
    """

    data: Mapping[str, Example]
    files: Mapping[str, str]
    test: Mapping[str, Example]
    replay: Mapping[str, Example]

    def examples(self, ids: Iterable[str]) -> list[Example]:
        """Those with these ids, wherever they are."""
        everything = {**self.replay, **self.test, **self.data}
        return [everything[i] for i in ids]

    def digest(self, ids: Iterable[str]) -> str:
        """SHA-256 that names a set: its ids and contents, in their order."""
        return digest([[example.id, _content_id(example)] for example in self.examples(ids)])

    def test_for(self, situation: Situation) -> tuple[str, ...]:
        """The test examples of the classes that are known after a request, and those without a class."""
        classes = {label_of(self.data[i]) for i in situation.known}
        return tuple(i for i, example in self.test.items() if label_of(example) in (*classes, None))

    def tested(self, ids: Iterable[str]) -> tuple[str, ...]:
        """The test examples of the classes of some of the data."""
        classes = {label_of(self.data[i]) for i in ids}
        return tuple(i for i, example in self.test.items() if label_of(example) in classes)


@lru_cache(maxsize=100_000)
def _content_id(example: Example) -> str:
    return content_id(example.content)


def pool_of_bench(bench: Bench) -> Pool:
    """Read the files of a bench; once per process, until ``forget_files``.

    Raises:
        DataError: a file that cannot be used, an example in two of them, a content under two ids, a class that is not
            one of the model's, or a test set of other classes.
    """
    others = (("test", bench.test), ("replay", bench.replay))
    given = tuple((name, source) for name, source in others if source is not None)
    return _pool(bench.data, bench.per_class, given, bench.ignore_columns, bench.model)


def forget_files() -> None:
    """Read them anew at the next call."""
    _pool.cache_clear()


@lru_cache(maxsize=1)
def _pool(
    data: tuple[str, ...],
    per_class: int | None,
    others: tuple[tuple[str, str], ...],
    ignored: frozenset[str],
    model: str,
) -> Pool:
    sources = {**{f"data {source}": source for source in data}, **dict(others)}
    # What is ignored serves all files of a bench, of which one may not have it.
    layout = family_of(model).layout(Layout(ignore=ignored))
    found = {name: read_rows(source, layout).examples for name, source in sources.items()}
    sets, _ = told_apart(spelled_alike(found, model))
    check_disjoint(sets)
    taken: Counter[ClassLabel] = Counter()
    chosen: dict[str, Example] = {}
    files: dict[str, str] = {}
    for file, example in ((source, example) for source in data for example in sets[f"data {source}"]):
        taken[label_of(example)] += 1
        if per_class is None or taken[label_of(example)] <= per_class:
            chosen[example.id], files[example.id] = example, file
    check_unique(list(chosen.values()), "the data")
    test, replay = ({example.id: example for example in sets.get(name, ())} for name in ("test", "replay"))
    check_tested(test.values(), chosen.values())
    return Pool(chosen, files, test, replay)


def check_streams(bench: Bench) -> None:
    """Refuse, before a model is loaded, a model folder that is none, and data that do not give the streams.

    Raises:
        UsageError: as ``pool_of_bench`` and ``stream_of``.
    """
    check_source(bench.model)
    check_bound(bench.model)
    for seed in bench.seeds:
        stream_of(bench, seed)


def stream_of(bench: Bench, seed: int) -> RequestStream:
    """The requests of one seed.

    Raises:
        DataError: the file of the stream, or a class or id in it, cannot be used.
        PlanError: no such scenario, or one that the data do not allow.
    """
    pool, choice = pool_of_bench(bench), bench.stream
    if choice.kind.endswith(".json"):
        stream = _read_stream(Path(choice.kind))
        if strangers := [i for i in stream.pool if i not in pool.data]:
            raise DataError(
                f"stream {choice.kind}: {len(strangers)} of its {len(stream.pool)} ids are not in the data "
                f"(first: {strangers[0]!r}); accepted: a stream made of these data"
            )
        return stream
    if choice.kind not in scenarios.names():
        raise PlanError(unknown("stream", choice.kind, (*scenarios.names(), SAVED_STREAM)))

    def ids_in(file: str) -> list[str]:
        return [example.id for example in read_rows(file, Layout(ignore=bench.ignore_columns)).examples]

    material = StreamMaterial(_tasks(pool, choice), seed if choice.seed is None else choice.seed, ids_in)
    return scenarios.load(choice.kind).make(material, choice.options)


def _tasks(pool: Pool, choice: StreamChoice) -> tuple[Task, ...]:
    if choice.tasks != "classes":
        return _given_tasks(pool, choice.tasks)
    how = {"first": choice.base_classes, "order": choice.class_order}
    return tasks_of_classes(pool.data.values(), choice.classes_per_task, **how)


def _given_tasks(pool: Pool, what: Literal["files", "given"]) -> tuple[Task, ...]:
    names = pool.files if what == "files" else {i: _task_of(example) for i, example in pool.data.items()}
    if nameless := [i for i, name in names.items() if name is None]:
        raise DataError(
            f"stream.tasks = given, and {len(nameless)} of {len(names)} examples have no task (first: "
            f"{nameless[0]!r}); accepted: a 'task' for each, or stream.tasks = files or classes"
        )
    groups: dict[str, list[str]] = {}
    for i, name in names.items():
        groups.setdefault(str(name), []).append(i)
    labels = {i: label for i, example in pool.data.items() if (label := label_of(example)) is not None}
    return by_domain(groups, labels=labels if len(labels) == len(names) else None)


def _task_of(example: Example) -> int | str | None:
    return example.content.task if isinstance(example.content, Image) else None


def _read_stream(path: Path) -> RequestStream:
    try:
        return RequestStream.from_json(parse_json(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"stream {path}: {error.strerror or error}; {_ACCEPTED}") from None
    except ValueError as error:
        raise DataError(f"stream {path}: not JSON ({error}); {_ACCEPTED}") from None
    except DataError as error:
        raise DataError(f"stream {path}: {error}; {_ACCEPTED}") from None


_ACCEPTED = "give a scenario by name, or a file that RequestStream.to_json wrote"
