"""``palimpsest bench``: methods beside each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.cli import options as o
from palimpsest.cli import stream_listing
from palimpsest.cli.screen import shown_progress
from palimpsest.data.streams import scenarios
from palimpsest.errors import PlanError

app = typer.Typer(help="Compare methods on a stream of requests.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Compare methods, each beside the retrained oracle."""


@app.command("clu")
def clu(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bench; again goes on there.")],
    model: Annotated[str | None, typer.Option(help="Model before it learned anything of the data.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="Examples with classes or subjects; may repeat.")] = None,
    per_class: Annotated[int | None, typer.Option(help="Use so many examples of each class.  [all]")] = None,
    test: Annotated[str | None, typer.Option(help="Comparable examples that no model learns.")] = None,
    replay: Annotated[str | None, typer.Option(help="General examples, always in the memory.")] = None,
    stream: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(scenarios.names())} or FILE.json.  [cross-category]"),
    ] = None,
    classes_per_task: Annotated[int | None, typer.Option(help="Classes learned together.  [2]")] = None,
    buffer: Annotated[str | None, typer.Option(help="Examples in the replay buffer, or all.  [500]")] = None,
    methods: Annotated[str | None, typer.Option(help="Rows, e.g. ug_clu,er+salun (learner+unlearner).")] = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2.  [0]")] = None,
    twin: Annotated[bool | None, typer.Option("--twin/--no-twin", help="A second oracle, of another seed.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each.")] = 1,
    oracles: Annotated[Path | None, typer.Option(help="Folder of oracles, to share.  [OUTPUT/oracles]")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML or JSON with any of this and training options.")] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="E.g. learning.training.learning_rate=0.1 stream.tasks=files")
    ] = None,
    ignore_column: o.IgnoreColumns = None,
    json: o.Json = False,
) -> int:
    """Learn and unlearn by many methods on one stream of requests, and hold each against retraining.

    Every request has its oracle: the model retrained on all that is to be known. Interrupted, the same command goes on.
    """
    from palimpsest.bench.define.config import make_bench
    from palimpsest.bench.define.pool import check_streams
    from palimpsest.engine.plan import read_mapping

    values: dict[str, Any] = {} if config is None else read_mapping(config, "bench", "options")
    given: dict[str, Any] = {"model": model, "data": data or None, "per_class": per_class, "test": test, "twin": twin}
    given |= {"replay": replay, "ignore_columns": ignore_column or None, "buffer": buffer}
    given |= {"rows": _named(methods), "seeds": _numbers("--seeds", seeds)}
    values |= {name: value for name, value in given.items() if value is not None}
    _put_stream(values, stream, classes_per_task)
    _put_assigned(values, assign or ())
    bench = make_bench(values)
    check_streams(bench)
    from palimpsest.bench.whole_bench import run_bench  # and torch with it

    with shown_progress(quiet=json) as progress:
        result = run_bench(bench, output, oracles=oracles, jobs=jobs, threads=threads, progress=progress)
    return _show(result, output, as_json=json)


app.command("streams")(stream_listing.command)


def _named(chains: str | None) -> dict[str, str] | None:
    return None if chains is None else {chain.strip(): chain.strip() for chain in chains.split(",")}


def _numbers(option: str, words: str | None) -> list[int] | None:
    try:
        return None if words is None else [int(word) for word in words.split(",")]
    except ValueError:
        raise PlanError(f"{option} {words!r}; accepted: whole numbers, such as 0,1,2") from None


def _put_stream(values: dict[str, Any], kind: str | None, classes_per_task: int | None) -> None:
    if isinstance(values.get("stream"), str):
        values["stream"] = {"kind": values["stream"]}
    _put(values, "stream.kind", kind)
    _put(values, "stream.classes_per_task", classes_per_task)


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

    print(result.model_dump_json(indent=1) if as_json else f"{tables(result)}\n\nreport  {output}/report.html")
    return 0
