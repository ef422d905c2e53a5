"""All that defines a bench: one schema for the command line, bench files and Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from palimpsest import methods
from palimpsest.bench.define.bench_rows import BenchRow, Sections, merged
from palimpsest.bench.define.defaults import with_defaults
from palimpsest.bench.results import NOTHING, RANDOM
from palimpsest.data.streams import scenarios
from palimpsest.data.streams.scenario import ScenarioConfig
from palimpsest.engine.inputs import check_family
from palimpsest.engine.plan import Plan, make_plan
from palimpsest.engine.sections import Encoding, Section
from palimpsest.errors import PlanError, unknown
from palimpsest.method_card import Kind
from palimpsest.models.sources import family_of

RECIPE = ("training", "scope", "pairing")
RANDOM_EDIT = "random_edit"
TWIN_SEED = 2**31  # added to a seed for the oracle's twin


class StreamChoice(Section):
    """Which requests come, made of the classes (or subjects) of the data; beside these, the options of scenarios."""

    model_config = ConfigDict(extra="allow")
    # What is no field here is an option of a scenario, and checked by the Config in the scenario's own file.
    __pydantic_extra__: dict[str, Any] = Field(init=False)

    kind: str = "cross-category"
    """A scenario by name, or a JSON file that ``RequestStream.to_json`` wrote."""
    tasks: Literal["classes", "files", "given"] = "classes"
    """What is learned together: classes (or subjects); each file of the data (domain-incremental); or the images that
    have the same ``task``."""
    classes_per_task: int = Field(default=2, ge=1)
    """Classes (or subjects) that are learned together, where tasks are made of these."""
    base_classes: int | None = Field(default=None, ge=1)
    """Classes (or subjects) of the first task; None = as many as of the others (B-m Inc-n of the field)."""
    class_order: int | None = Field(default=None, ge=0)
    """Seed that shuffles the order of the classes (or subjects); None = their natural order."""
    seed: int | None = Field(default=None, ge=0)
    """Of the choice of what is forgotten; None = each seed of the bench has its own stream."""

    @model_validator(mode="after")
    def _scenarios_have_the_rest(self) -> StreamChoice:
        options = scenarios.options(self.kind, self.__pydantic_extra__, beside=type(self).model_fields)
        self.__pydantic_extra__.update(options)
        return self

    @property
    def forgets(self) -> bool:
        """May any of its requests forget?"""
        return self.kind not in scenarios.names() or scenarios.load(self.kind).forgets

    @property
    def options(self) -> ScenarioConfig:
        """Those of the chosen scenario."""
        schema: type[ScenarioConfig] = scenarios.load(self.kind).Config
        values = dict(self)
        return schema.model_validate({name: values[name] for name in schema.model_fields})


class Bench(Section):
    """A bench: a stream, rows and seeds, and how everything is trained and measured."""

    model: str
    """Folder of the model before it learned anything of the stream."""
    data: tuple[str, ...]
    """Files of the examples of the stream, with classes or subjects."""
    per_class: int | None = Field(default=None, ge=1)
    """Only the first examples of each class, so many; None = all."""
    test: str | None = None
    """Comparable examples that no model learns: test accuracy, and non-members for the attack."""
    replay: str | None = None
    """General examples that are always in the memory."""
    ignore_columns: frozenset[str] = frozenset()
    """Columns of the files to leave out."""
    stream: StreamChoice = Field(default_factory=StreamChoice)
    """Which requests come."""
    head: Literal["keep", "grow", "new"] = "keep"
    """keep = the model knows all classes from the start; grow = classes are added to its head as they come; new = the
    first request puts a head of its classes in the place of the model's, as behind a backbone."""
    tasks_on: Literal["learned", "test"] = "learned"
    """What is known of a task is asked on what was learned of it, or on test examples of its classes."""
    buffer: int | Literal["all"] = 500
    """Examples that the replay buffer holds; "all" = everything that remains."""
    rows: dict[str, BenchRow]
    """Name -> row. The random edit is as long as that of the first row that moves weights, and learns like it."""
    seeds: tuple[int, ...] = (0,)
    """One cell per row and seed."""
    twin: Literal[True, False, "forget"] = False
    """Retrain each oracle once more with another seed: how far two oracles are apart. "forget" = only where a request
    forgets."""
    learning: Sections = Field(default_factory=dict)
    """Sections of every run that learns, the oracle's among them."""
    unlearning: Sections = Field(default_factory=dict)
    """Sections of every run that unlearns, also while it learns."""
    oracle: Sections = Field(default_factory=dict)
    """Sections of the oracle, over those of ``learning``."""
    methods: dict[str, Sections] = Field(default_factory=dict)
    """Method -> its sections in every row, over those of ``learning`` and ``unlearning``."""
    encoding: Encoding = Encoding()
    """How examples become what a model takes."""
    calibrate: bool = False
    """Show every row that forgets once more, calibrated: as much of each change as keeps 95 % of ES (of images:
    accuracy) of what remains (``palimpsest calibrate``). No row goes on from a calibrated model."""
    limit: int = Field(default=1000, ge=1)
    """At most so many examples of each set are read when a model is measured."""

    @field_validator("data", mode="before")
    @classmethod
    def _one_file_is_several(cls, data: Any) -> Any:
        return (data,) if isinstance(data, str) else data

    @field_validator("data")
    @classmethod
    def _files_differ(cls, data: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [file for number, file in enumerate(data) if file in data[:number]]:
            raise ValueError(f"{twice[0]!r} comes twice; accepted: each file once")
        return data

    @field_validator("stream", mode="before")
    @classmethod
    def _scenario_is_stream(cls, stream: Any) -> Any:
        return {"kind": stream} if isinstance(stream, str) else stream

    @field_validator("rows", mode="before")
    @classmethod
    def _chains_are_rows(cls, rows: Any) -> Any:
        if isinstance(rows, str):
            rows = rows.split(",")
        if isinstance(rows, list | tuple):
            rows = _each_once([str(chain).strip() for chain in rows])
        if not isinstance(rows, dict):
            return rows
        return {label: {"chain": row} if isinstance(row, str) else row for label, row in rows.items()}

    @field_validator("rows")
    @classmethod
    def _rows_are_chains(cls, rows: dict[str, BenchRow], info: ValidationInfo) -> dict[str, BenchRow]:
        stream = info.data.get("stream")
        if stream is not None and not stream.forgets:
            rows = {label: row.model_copy(update={"only_learns": True}) for label, row in rows.items()}
        problems = [problem for label, row in rows.items() for problem in row.problems(label)]
        if problems or not rows:
            raise ValueError("; ".join(problems) or "no methods; accepted: at least one, e.g. er+grad_diff")
        return rows

    @field_validator("seeds", mode="before")
    @classmethod
    def _one_seed_is_several(cls, seeds: Any) -> Any:
        return (seeds,) if isinstance(seeds, int) else seeds

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= TWIN_SEED:
            raise ValueError(f"seeds {list(seeds)}; accepted: at least one number from 0 to {TWIN_SEED - 1}, each once")
        return seeds

    @field_validator("buffer", mode="before")
    @classmethod
    def _buffer_holds_something(cls, buffer: Any) -> Any:
        if buffer != "all" and not (str(buffer).isdecimal() and int(buffer) > 0):
            raise ValueError(f"a replay buffer of {buffer} examples; accepted: 1 or more, or 'all'")
        return buffer

    @model_validator(mode="after")
    def _heads_and_tests_fit(self) -> Bench:
        if self.tasks_on == "test" and self.test is None:
            raise ValueError("tasks are asked on test examples, and there are none; give --test, or tasks_on=learned")
        if self.head != "keep" and self.calibrate:
            raise ValueError("calibrate mixes models, and a head that grows gives them other outputs; leave one out")
        return self

    @field_validator("learning", "unlearning", "oracle")
    @classmethod
    def _recipes_have_sections(cls, sections: Sections, info: ValidationInfo) -> Sections:
        accepted = (*RECIPE, "options") if info.field_name == "oracle" else RECIPE
        for name in sections:
            if name not in accepted:
                raise ValueError(unknown(f"section of {info.field_name}", name, accepted))
        return sections

    @field_validator("methods")
    @classmethod
    def _methods_exist(cls, sections: dict[str, Sections]) -> dict[str, Sections]:
        for name in sections:
            if name not in methods.names():
                raise ValueError(unknown("method with sections", name, methods.names()))
        return sections

    @property
    def all_rows(self) -> dict[str, BenchRow]:
        """The rows and, where anything is forgotten, the controls, in the order of the tables."""
        if not self.stream.forgets:
            return dict(self.rows)
        first, equal = next(iter(self.rows.values())), self.rows[self.equalled]
        nothing = BenchRow(chain=first.learner, methods=first.methods, only_learns=True)
        edit = BenchRow(chain=f"{equal.learner}+{RANDOM_EDIT}", methods=equal.methods)
        return {**self.rows, NOTHING: nothing, RANDOM: edit}

    @property
    def equalled(self) -> str:
        """Name of the row that the random edit is as long as: the first that moves weights; else the first."""
        moving = (name for name, row in self.rows.items() if not row.spares_weights)
        return next(moving, next(iter(self.rows)))

    def has_twin(self, *, forgets: bool) -> bool:
        """Is the oracle of a request retrained twice?"""
        return forgets if self.twin == "forget" else bool(self.twin)

    def plan(
        self,
        kind: Kind,
        method: str,
        seed: int,
        *,
        row: BenchRow | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Plan:
        """The plan of one run, without its data.

        Args:
            kind: what it is for.
            method: by which method.
            seed: of the run.
            row: whose sections come last; None for the oracle.
            options: of the method, over all others.

        Raises:
            PlanError: a section, option or value that the method does not take.
        """
        learns = kind == "learn" or methods.card(method).starts_from == "base"
        last = self.oracle if row is None else row.methods.get(method, {})
        own = self.methods.get(method, {}) if row is not None else {}
        forced: Sections = {"training": {"seed": seed}, "options": dict(options or {})}
        layers = (self.learning if learns else self.unlearning, own, last, forced)
        fixed = {"control": {"kind": "none"}}  # rows are compared at the rates that the bench names
        sections = {**fixed, **merged(*layers), "encoding": self.encoding}
        return make_plan({"kind": kind, "method": method, "model": self.model, "files": {}}, sections)


def _each_once(names: list[str]) -> dict[str, str]:
    """Rows that are called by their chains."""
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"{twice[0]!r} comes twice; accepted: each row once")
    return {name: name for name in names}


def make_bench(values: Mapping[str, Any]) -> Bench:
    """A checked bench; every plan it will need can be made.

    Raises:
        PlanError: the first value that cannot be used, and how many more there are.
    """
    bench = _validated(with_defaults(values))
    for row in bench.all_rows.values():
        for learns, forgets in ((True, False), (False, True), (True, True)):
            for kind, method in row.parts(learns=learns, forgets=forgets):
                plan = bench.plan(kind, method, seed=0, row=row)
                check_family(plan, family_of(bench.model))
    bench.plan("unlearn", "retrain", seed=0)
    return bench


def _validated(values: Mapping[str, Any]) -> Bench:
    try:
        return Bench.model_validate(values)
    except ValidationError as error:
        first, *more = error.errors()
        place = ".".join(map(str, first["loc"]))
        also = f" (and {len(more)} more)" if more else ""
        if first["type"] == "missing":
            option = {"rows": "methods"}.get(place, place)
            raise PlanError(
                f"the bench has no {place}; give --{option}, or {place} in the file of --config{also}"
            ) from None
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise PlanError(unknown("option of a bench", place, Bench.model_fields) + also) from None
        raise PlanError(f"{place or 'bench'}: {first['msg'].removeprefix('Value error, ')}{also}") from None
