"""What the verbs take by name, made into the engine's values: ``Given`` and ``Manner`` of a run, ``ToMeasure``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from importlib.util import find_spec
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypedDict

from palimpsest.data.read.contents import shown
from palimpsest.data.read.layout import Layout, Source
from palimpsest.data.read.selection import Selection
from palimpsest.data.sets.roles import given_roles
from palimpsest.engine.given import Given, Manner
from palimpsest.engine.measured_set import ToMeasure
from palimpsest.engine.progress import Progress, silent
from palimpsest.engine.sections import Encoding
from palimpsest.errors import PlanError, UsageError, encodable, unknown
from palimpsest.verbs.asked_day import day_of

MODELS = ("base", "oracle", "revision")
_KINDS: Mapping[str, tuple[type, str]] = {
    "columns": (Mapping, 'a mapping of our name to yours, such as {"prompt": "question"}'),
    "split": (str, "the name of a split"),
    "revision": (str, "a commit, as text"),
    "allow_forgotten": (bool, "True or False"),
    "answers": (bool, "True or False"),
    "in_place": (bool, "True or False"),
    "make_oracle": (bool, "True or False"),
    "head": (str, '"grow" or "new"'),
    "diversify": (int, "a whole number"),
    "refine": (bool, "True or False"),
    "restore": (Real, "a share, such as 0.95"),
    "token_ids": (bool, "True or False"),
    "progress": (Callable, "a function that takes stage, done, total and note"),  # type: ignore[dict-item]
    "threads": (int, "a whole number, or None"),
    "batch_size": (int, "a whole number"),
    "asked_by": (str, "text"),
    "options": (Mapping, "a mapping of options"),
    "seed": (int, "a whole number"),
    "report_to": (Iterable, "names of trackers"),
}
"""What an argument must be where anything else would be found out late, or be taken for something that it is not."""
TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
"""Tracker -> packages, one of which must be installed."""


class Arguments(TypedDict, total=False):
    """Keyword arguments that the three verbs share; each may be left out.

    A set is a file, a folder, a Hub name, a list of ``Example`` or of dicts, a ``datasets.Dataset`` or a pandas frame.

    Attributes:
        retain: examples that must stay: what the model learned before, or a memory of it.
        replay: earlier or general examples rehearsed beside, because a small model forgets everything else.
        holdout: comparable examples the model never saw: the level of "forgotten".
        general: general text, for its perplexity.
        columns: our name -> the file's, e.g. {"prompt": "question", "paraphrase.prompt": "reworded"}.
        ignore_columns: columns to leave out although they could be read.
        split: of dataset folders and Hub datasets.
        revision: commit of a Hub name.
        answers: show in the report what the models say to a few prompts; False where rows are private.
        progress: called while it works.
        threads: CPU threads; None = one for a small model.
        report_to: trackers.
        allow_forgotten: rows that the model was made to forget may come back; recorded, and said in the report.
        head: "grow": classes of the learn set that a classifier does not know are added to its head; "new": it knows
            these alone from then on.
        in_place: the module of a model in memory gets the new weights when the run has ended well; else it stays as it
            is, and the result has a copy.
    """

    retain: Source | None
    replay: Source | None
    holdout: Source | None
    general: Source | None
    columns: Mapping[str, str]
    ignore_columns: Iterable[str]
    split: str | None
    revision: str | None
    answers: bool
    progress: Progress
    threads: int | None
    report_to: str | Iterable[str]
    allow_forgotten: bool
    head: str | None
    in_place: bool


class ForgettingArguments(Arguments, total=False):
    """What ``unlearn`` and ``update`` take besides.

    Attributes:
        paraphrase: what must go, asked in other words; measured, and never trained on.
        unseen: rows of what must go that the model never learned, for methods that only look at them.
        data: a pool that what must go is taken from by subject, id or class; what is not named stays (is retained).
        forget_subject: subjects whose rows of ``data`` must go; one or several.
        forget_id: ids of rows of ``data`` that must go.
        forget_class: classes whose images of ``data`` must go.
        base: the model before it learned anything, for methods that retrain and for ``make_oracle``.
        oracle: a model retrained without the forget set, to measure beside.
        restore: give utility back once the run has ended: keep the most of the change that leaves this share of es (of
            images accuracy) of what must stay; what is saved, measured and judged is the model after that.
        diversify: take steps on so many further forms of each row to forget, too, in other sentences (by templates).
        make_oracle: have one retrained from the base on retain (and replay) beside the output; made once, then reused.
        refine: test every forget example between epochs and stop when all pass, at a fixed rate; None = for ICU with a
            fixed rate and a holdout.
        asked_by: who asked for it; stands in the report.
        asked_on: when, a date or "YYYY-MM-DD".
    """

    paraphrase: Source | None
    unseen: Source | None
    data: Source | None
    forget_subject: str | Iterable[str]
    forget_id: str | Iterable[str]
    forget_class: str | int | Iterable[str | int]
    base: str | Path | None
    oracle: str | Path | None
    restore: float | None
    diversify: int | None
    make_oracle: bool
    refine: bool | None
    asked_by: str | None
    asked_on: str | date | None


class MeasureArguments(TypedDict, total=False):
    """Further keyword arguments of ``measure``.

    Attributes:
        revision: commit of a Hub name.
        token_ids: rows are ``{"id", "input_ids"}``, taken as they are.
        without_parts: the weights alone, without the parts of a version or an adapter: what lies behind a guard.
        probe: what a linear probe on what enters the head still finds of each class, too (``Evaluation.probe``).
        columns: our name -> the file's, e.g. {"prompt": "question"}.
        ignore_columns: columns of the file to leave out.
        split: of a dataset folder or Hub dataset.
        encoding: how examples become tokens.
        batch_size: examples per forward pass; changes no value.
        progress: called while it works.
        threads: CPU threads; None = one for a small model.
    """

    revision: str | None
    token_ids: bool
    without_parts: bool
    probe: bool
    columns: Mapping[str, str]
    ignore_columns: Iterable[str]
    split: str | None
    encoding: Encoding | None
    batch_size: int
    progress: Progress
    threads: int | None


ARGUMENT_NAMES = (
    *ForgettingArguments.__annotations__,
    *(role for role in given_roles() if role not in ForgettingArguments.__annotations__),
)
"""All that a verb may be given by name; a role that the types above do not name yet is one of them."""


def given_by(model: object, sets: Mapping[str, Source | None], arguments: Mapping[str, Any]) -> Given:
    """The request, checked as far as that goes without reading anything.

    Args:
        model: of the run.
        sets: those that a verb names itself: "learn", "forget".
        arguments: the others.

    Raises:
        UsageError: an argument that is not one, or a value that cannot be.
    """
    refuse_unknown(arguments, ARGUMENT_NAMES)
    named = {role: {**arguments, **sets}.get(role) for role in given_roles()}
    selection = Selection(
        *(as_texts(arguments.get(f"forget_{what}"), f"forget_{what}") for what in ("subject", "id", "class"))
    )
    data = arguments.get("data")
    _check_pool(data, selection, named)
    return Given(
        path_of(model, "model"),
        {role: source for role, source in named.items() if source is not None},
        {name: path_of(arguments[name], name) for name in MODELS if arguments.get(name) is not None},
        data,
        selection,
        layout_of(arguments),
        asked_by=encodable(str(arguments.get("asked_by") or ""), "asked_by"),
        asked_on=day_of(arguments.get("asked_on")),
        allow_forgotten=bool(arguments.get("allow_forgotten")),
    )


def to_measure(model: str, data: Source, arguments: Mapping[str, Any]) -> ToMeasure:
    """One set to measure, from the further arguments of ``measure``.

    Args:
        model: folder or Hub name.
        data: the set.
        arguments: ``MeasureArguments``, checked.

    Raises:
        UsageError: a value that cannot be.
    """
    return ToMeasure(
        model,
        data,
        layout_of(arguments),
        encoding=arguments.get("encoding") or Encoding(),
        revision=arguments.get("revision"),
        batch_size=arguments.get("batch_size", 32),
        threads=arguments.get("threads"),
        without_parts=bool(arguments.get("without_parts")),
        probe=bool(arguments.get("probe")),
    )


def layout_of(arguments: Mapping[str, Any]) -> Layout:
    """How rows are read."""
    return Layout(
        columns=arguments.get("columns") or {},
        ignore=frozenset(as_texts(arguments.get("ignore_columns"), "ignore_columns")),
        split=arguments.get("split"),
        token_ids=arguments.get("token_ids", False),
    )


def refuse_unknown(arguments: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse an argument that a verb does not have, as Python refuses it where no dict is in between; and odd values.

    Raises:
        PlanError: with the closest one that it has, or what it accepts.
    """
    for name, value in arguments.items():
        if name not in names:
            raise PlanError(unknown("argument", name, names))
        accepted, said = _KINDS.get(name, (object, ""))
        if value is not None and (not isinstance(value, accepted) or (isinstance(value, bool) and accepted is int)):
            raise PlanError(f"{name} is {shown(value)}; accepted: {said}")


def manner_of(output: str | Path, arguments: Mapping[str, Any]) -> Manner:
    """How the run goes about it.

    Raises:
        PlanError: a tracker that is none, or is not installed.
    """
    progress = arguments.get("progress") or silent
    if isinstance(output, bool) or not isinstance(output, str | Path):
        raise PlanError(f"output is a {type(output).__name__}; accepted: the path of a new folder")
    return Manner(
        Path(output),
        progress,
        arguments.get("threads"),
        _trackers(arguments.get("report_to") or ()),
        bool(arguments.get("answers", True)),
    )


def path_of(value: object, name: str) -> str:
    """A model's place as text.

    Raises:
        UsageError: it is a model in memory.
    """
    if isinstance(value, str | Path):
        return str(value)
    raise UsageError(
        f"{name} is a {type(value).__name__} in memory; accepted: a folder, a Hub name, or "
        "pal.Model.of(model, tokenizer)"
    )


def as_texts(value: object, name: str) -> tuple[str, ...]:
    """One value or several, as text.

    Raises:
        PlanError: something else among them.
    """
    if value is None:
        return ()
    several = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,)
    for item in several:
        if isinstance(item, bool) or not isinstance(item, str | Integral):  # NumPy's numbers are some, too
            raise PlanError(f"{name} holds a {type(item).__name__}; accepted: text, or a list of texts")
    return tuple(map(str, several))


def _check_pool(data: object, selection: Selection, named: Mapping[str, object]) -> None:
    """A pool and what is taken from it belong together, and take the place of a forget set."""
    if data is not None and named.get("forget") is not None:
        raise PlanError("--forget and --data were both given; give the rows to forget, or the pool to take them from")
    if data is not None and not selection:
        raise PlanError(
            "--data is a pool to forget from; say which rows must go with --forget-subject, --forget-id or "
            "--forget-class, or give them with --forget FILE"
        )
    if data is None and selection:
        raise PlanError("--forget-subject, --forget-id and --forget-class take rows of a pool; give it with --data")


def _trackers(names: str | Iterable[str]) -> tuple[str, ...]:
    given = (names,) if isinstance(names, str) else tuple(names)
    for name in given:
        if name not in TRACKERS:
            raise PlanError(unknown("tracker to report to", name, TRACKERS))
        if not any(find_spec(package) for package in TRACKERS[name]):  # Accelerate would report to nobody
            raise PlanError(f"report_to = {name}: it is not installed; pip install {name}, or report to nothing")
    return given
