"""``palimpsest bench``: methods beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from palimpsest.cli import options as o
from palimpsest.cli import stream_listing
from palimpsest.cli.flags import Flag, command_of
from palimpsest.cli.saying import tell, tell_json
from palimpsest.cli.screen import shown_progress
from palimpsest.data.streams import scenarios
from palimpsest.errors import PlanError

app = typer.Typer(help="Compare methods on a stream of requests.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Compare methods, each beside the retrained oracle."""


def _option(kind: Any, about: str, *names: str, **shown: Any) -> Any:
    return Annotated[kind, typer.Option(*names, help=about, **shown)]


_SCENARIOS = ", ".join(scenarios.names())
_FLAGS = (
    Flag("output", _option(Path, "Folder of the bench; again goes on there.", "--output", "-o"), default=...),
    Flag("model", _option(str | None, "Model before it learned anything of the data.")),
    Flag("data", _option(list[str] | None, "Examples with classes or subjects; may repeat.")),
    Flag("per_class", _option(int | None, "Use so many examples of each class.  [all]")),
    Flag("test", _option(str | None, "Comparable examples that no model learns.")),
    Flag("replay", _option(str | None, "General examples, always in the memory.")),
    Flag("stream", _option(str | None, f"{_SCENARIOS} or FILE.json.  [cross-category]")),
    Flag("classes_per_task", _option(int | None, "Classes learned together.  [2]")),
    Flag("base_classes", _option(int | None, "Classes of the first task.  [as of the others]")),
    Flag("class_order", _option(int | None, "Seed that shuffles the classes.  [their own order]")),
    Flag("head", _option(str | None, "keep, grow or new: how the head gets its classes.")),
    Flag("buffer", _option(str | None, "Examples in the replay buffer, or all.  [500]")),
    Flag("methods", _option(str | None, "Rows, e.g. ug_clu,er+salun (learner+unlearner).")),
    Flag("seeds", _option(str | None, "Such as 0,1,2.  [0]")),
    Flag("twin", _option(bool | None, "A second oracle, of another seed.", "--twin/--no-twin")),
    Flag("jobs", _option(int, "Processes.", min=1, max=1024), default=1),
    Flag("threads", _option(int, "CPU threads of each.", min=1, max=1024), default=1),
    Flag("oracles", _option(Path | None, "Folder of oracles, to share.  [OUTPUT/oracles]")),
    Flag("config", _option(Path | None, "YAML or JSON with any of this and training options.")),
    Flag("assign", _option(list[str] | None, "E.g. learning.training.learning_rate=0.1 stream.tasks=files", "--set")),
    Flag("ignore_column", o.IgnoreColumns),
    Flag("json", o.Json, default=False),
)
_ABOUT = """Learn and unlearn by many methods on one stream of requests, and hold each against retraining.

Every request has its oracle: the model retrained on all that is to be known. Interrupted, the same command goes on.
"""


_ABOUT_CIL = """Learn classes task by task with many methods, and show how much of all that was learned is known.

Each begins behind the model as a backbone, with a head that grows; tasks are asked on --test. The oracle learned all
classes so far at once. All of `palimpsest bench clu`: a scenario that forgets may be given, too.
"""
_OF_CIL = {"head": "new", "tasks_on": "test", "buffer": 2000, "rows": "finetune,er,simple_cil,fecam,ranpac"}
"""The custom of class-incremental learning, where nothing is said."""

_OTHERS_OF_CIL = {
    "stream": Flag("stream", _option(str | None, f"{_SCENARIOS} or FILE.json.  [incremental]")),
    "head": Flag("head", _option(str | None, "keep, grow or new: how the head gets its classes.  [new]")),
    "buffer": Flag("buffer", _option(str | None, "Examples in the replay buffer, or all.  [2000]")),
    "methods": Flag("methods", _option(str | None, f"Rows, learner+unlearner.  [{_OF_CIL['rows']}]")),
}
_FLAGS_OF_CIL = tuple(_OTHERS_OF_CIL.get(flag.name, flag) for flag in _FLAGS)


def _run_cil(values: dict[str, Any]) -> int:
    return _run(values, {**_OF_CIL, "stream": "incremental"})


def _run(values: dict[str, Any], usual: Mapping[str, Any] = MappingProxyType({})) -> int:
    from palimpsest.bench.define.config import make_bench
    from palimpsest.bench.define.place import check_place
    from palimpsest.bench.define.pool import check_streams

    bench = make_bench(_bench_options(values, usual))
    check_place(values["output"])
    check_streams(bench)
    from palimpsest.bench.whole_bench import run_bench  # and torch with it

    beside = {name: values[name] for name in ("oracles", "jobs", "threads")}
    with shown_progress(quiet=values["json"]) as progress:
        result = run_bench(bench, values["output"], progress=progress, **beside)
    return _show(result, values["output"], as_json=values["json"])


def _bench_options(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The usual ones, overridden by those of the file, by named options, by ``--set``, in this order."""
    from palimpsest.engine.plan import read_mapping

    config = values["config"]
    found: dict[str, Any] = {**usual, **({} if config is None else read_mapping(config, "bench", "options"))}
    given = {name: values[name] for name in ("model", "per_class", "test", "twin", "replay", "buffer", "head")}
    given |= {"data": values["data"] or None, "ignore_columns": values["ignore_column"] or None}
    given |= {"rows": _named(values["methods"]), "seeds": _numbers("--seeds", values["seeds"])}
    found |= {name: value for name, value in given.items() if value is not None}
    _put_stream(found, {"kind": values["stream"], **{name: values[name] for name in _OF_STREAM}})
    _put_assigned(found, values["assign"] or ())
    return found


app.command("clu")(command_of(_run, _FLAGS, _ABOUT))
app.command("cil")(command_of(_run_cil, _FLAGS_OF_CIL, _ABOUT_CIL))
app.command("streams")(stream_listing.command)


def _named(chains: str | None) -> list[str] | None:
    return None if chains is None else [chain.strip() for chain in chains.split(",")]


def _numbers(option: str, words: str | None) -> list[int] | None:
    try:
        return None if words is None else [int(word) for word in words.split(",")]
    except ValueError:
        raise PlanError(f"{option} {words!r}; accepted: whole numbers, such as 0,1,2") from None


_OF_STREAM = ("classes_per_task", "base_classes", "class_order")


def _put_stream(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    if isinstance(values.get("stream"), str):
        values["stream"] = {"kind": values["stream"]}
    for name, value in given.items():
        _put(values, f"stream.{name}", value)


def _put_assigned(values: dict[str, Any], assignments: Iterable[str]) -> None:
    for assignment in assignments:
        _, path, value = o.parse_assignment(f"bench.{assignment}")
        _put(values, path, value)


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    """Write a value at a dotted path, unless it is None."""
    if value is None:
        return
    *places, key = path.split(".")
    for place in places:
        inner = values.setdefault(place, {})
        if not isinstance(inner, dict):
            raise PlanError(f"--set {path}: {place!r} is {inner!r}; accepted: a place that holds options")
        values = inner
    values[key] = value


def _show(result: Any, output: Path, *, as_json: bool) -> int:
    from palimpsest.bench.show.console import tables

    if as_json:
        tell_json(result.model_dump_json(indent=1))
    else:
        tell(f"{tables(result)}\n\nreport  {output}/report.html")
    return 0
