"""Where a piece of work stands: bench, seed and request; its runs and readings, each kept by its digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from palimpsest.bench.beside_oracle import read_model, reading
from palimpsest.bench.define.config import Bench
from palimpsest.bench.define.labels import label_of
from palimpsest.bench.define.pool import Pool, forget_files, pool_of_bench, stream_of
from palimpsest.bench.define.situations import Situation, situations
from palimpsest.bench.perform.cache import remembered
from palimpsest.bench.perform.one_run import RunFacts, perform
from palimpsest.bench.results import FORGOT, TASK, StepReading
from palimpsest.data.draws import shuffled
from palimpsest.data.read.new_classes import NEW_HEAD, Head, names_in_order, new_classes
from palimpsest.engine.inputs import encode_set, encode_sets
from palimpsest.engine.plan import Plan
from palimpsest.engine.sections import HeadChoice
from palimpsest.metrics.per_set import set_metric_files
from palimpsest.models.grown_head import grow
from palimpsest.models.load import Loaded, device, load, source_digest
from palimpsest.models.sources import classes_of
from palimpsest.records import digest
from palimpsest.source import code_digest
from palimpsest.version import VERSION

READING = (
    "palimpsest.bench.beside_oracle",
    "palimpsest.models.load",
    "palimpsest.engine.inputs",
)  # what a reading is made by
Ids = Mapping[str, tuple[str, ...]]
NO_SIDES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class RequestCell:
    """One request of one seed.

    Attributes:
        bench: all that defines it.
        output: folder of the bench; ``runs`` and ``readings`` are below it.
        oracles: folder of the retrained models.
        seed: of the runs, the buffer and, unless that has its own, the stream.
        number: of the request.
    """

    bench: Bench
    output: Path
    oracles: Path
    seed: int
    number: int

    @property
    def situation(self) -> Situation:
        """The request and what surrounds it."""
        return situations_of(self.bench, self.seed)[self.number]

    @property
    def pool(self) -> Pool:
        """All examples."""
        return pool_of_bench(self.bench)

    def run(self, plan: Plan, start: Path, sets: Ids, folder: Path) -> tuple[RunFacts, Path]:
        """Run a plan on some sets, or find that it was run.

        Args:
            plan: without digests.
            start: folder of the model it starts from.
            sets: set name -> ids.
            folder: where runs are kept.

        Returns:
            What it did, and the folder of its model.
        """
        digests = {name: self.pool.digest(ids) for name, ids in sets.items()}
        digests["model"] = source_digest(start)
        plan = plan.model_copy(update={"model": str(start), "head": self.head(start), "digests": digests})

        def encoder(loaded: Loaded) -> dict[str, Any]:
            examples = {name: self.pool.examples(ids) for name, ids in sets.items()}
            return encode_sets(examples, loaded, plan.encoding)

        target = folder / plan.digest()
        return perform(plan, start, encoder, target), target

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that came until this request, in their order; empty where the head stays."""
        if self.bench.head == "keep":
            return ()
        requests = [one.request for one in situations_of(self.bench, self.seed)[: self.number + 1]]
        return new_classes(self.pool.examples(i for request in requests for i in request.presented), NEW_HEAD)

    def head(self, start: Path) -> HeadChoice | None:
        """What becomes of the head of a model by the classes that came until this request."""
        if not self.classes:
            return None
        if self.bench.head == "new" and start == Path(self.bench.model):
            return HeadChoice(kind="new", added=self.classes)
        known = classes_of(start)
        have = () if known is None else names_in_order(Head(*known))
        lacking = tuple(name for name in self.classes if name not in have)
        return HeadChoice(added=lacking) if lacking else None

    def loaded(self, folder: Path) -> Loaded:
        """A model as it is read: with a row for each class that came, whatever it learned."""
        head = self.head(folder)
        found = load(folder, as_stored=True)
        return found if head is None else grow(found, head.added, fresh=head.kind == "new")

    def read(self, model: Path, oracle: Path, sides: Mapping[str, str] = NO_SIDES) -> StepReading:
        """Measure a model beside an oracle on every set of the request, or find that it was measured.

        Args:
            model: its folder.
            oracle: folder of the oracle.
            sides: request that taught -> folder of the network that answers for its task instead of the model.

        Raises:
            DivergedError: the model's logits are not finite.
        """
        sets = {name: self._sample(ids) for name, ids in self._measured().items() if ids}
        everything = tuple(dict.fromkeys(i for members in sets.values() for i in members))
        routes = self._routes(model, sides, everything)
        named = {
            "palimpsest": VERSION,
            "source": code_digest(READING, set_metric_files()),
            "models": sorted([source_digest(folder), self.pool.digest(sorted(ids))] for folder, ids in routes.items()),
            "oracle": source_digest(oracle),
            "sets": {name: self.pool.digest(sorted(ids)) for name, ids in sets.items()},
            "encoding": self.bench.encoding.model_dump(mode="json"),
        }
        if self.classes:
            named["classes"] = self.classes
        path = self.output / "readings" / f"{digest(named)}.json"
        return remembered(path, StepReading, lambda: self._read(routes, oracle, sets))

    def _routes(
        self, model: Path, sides: Mapping[str, str], everything: tuple[str, ...]
    ) -> Mapping[Path, tuple[str, ...]]:
        """Folder of each network -> what it answers, of everything that is asked; without those that answer nothing."""
        theirs = {Path(folder): self._answered_by(name) for name, folder in sides.items()}
        routes = {folder: tuple(i for i in everything if i in ids) for folder, ids in theirs.items()}
        routes[model] = tuple(i for i in everything if not any(i in ids for ids in theirs.values()))
        return {folder: ids for folder, ids in routes.items() if ids}

    def _answered_by(self, name: str) -> frozenset[str]:
        """What the side network of a request answers: its task, and test examples of the classes of that."""
        ids = self.situation.tasks[name]
        classes = {label_of(self.pool.data[i]) for i in ids}
        return frozenset(ids) | {i for i, example in self.pool.test.items() if label_of(example) in classes}

    def _read(self, routes: Mapping[Path, tuple[str, ...]], oracle: Path, sets: Ids) -> StepReading:
        beside = self.loaded(oracle).model.to(device())
        values: dict[str, dict[str, float]] = {}
        for folder, ids in routes.items():
            loaded = self.loaded(folder)
            examples = encode_set(self.pool.examples(ids), loaded, self.bench.encoding)
            values |= read_model(loaded.model.to(device()), beside, examples, loaded.eos_ids)
        return reading(values, sets)

    def _measured(self) -> dict[str, tuple[str, ...]]:
        situation = self.situation
        return {
            "learn": situation.request.presented,
            "forget": situation.request.forget,
            "retain": situation.remaining,
            "test": self.pool.test_for(situation),
            **{TASK + name: self._asked_of(ids) for name, ids in situation.tasks.items()},
            **{FORGOT + name: ids for name, ids in situation.forgotten.items()},
        }

    def _asked_of(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """By what it is asked what is known of a task."""
        return self.pool.tested(ids) if self.bench.tasks_on == "test" else ids

    def _sample(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """At most ``limit`` of them, the same for all rows, and of a part of them the same ones as far as they go."""
        limit = self.bench.limit
        return ids if len(ids) <= limit else tuple(sorted(ids, key=self._place.__getitem__)[:limit])

    @cached_property
    def _place(self) -> Mapping[str, int]:
        """Place of every example in one random order."""
        everything = (*self.pool.data, *self.pool.test)
        return {i: place for place, i in enumerate(shuffled(everything, self.seed, "bench", 0))}


def situations_of(bench: Bench, seed: int) -> tuple[Situation, ...]:
    """All requests of one seed."""
    return _situations(bench.model_dump_json(), seed)


def read_anew() -> None:
    """Forget what was read of files in this process: they may have changed since."""
    forget_files()
    _situations.cache_clear()


@lru_cache(maxsize=64)
def _situations(bench: str, seed: int) -> tuple[Situation, ...]:
    opened = Bench.model_validate_json(bench)
    return situations(stream_of(opened, seed), opened.buffer, seed)
