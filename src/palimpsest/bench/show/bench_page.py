"""One self-contained HTML page per bench: no scripts, no network, no fonts but the reader's own."""

from __future__ import annotations

import json
from pathlib import Path

from palimpsest.bench.results import BenchResult
from palimpsest.bench.show.caveats import caveats
from palimpsest.bench.show.cells import curve_views, gap_picture, request_views, streams, table_views
from palimpsest.bench.show.console import stopped
from palimpsest.bench.show.summary import DECIMALS, noise
from palimpsest.files import write_atomic
from palimpsest.report.brief import moment
from palimpsest.report.numbers import show_or_dash
from palimpsest.report.page import templates


def render_bench(result: BenchResult) -> str:
    """The page of a bench.

    Args:
        result: the bench.

    Returns:
        A whole HTML document. Everything that came from the user is escaped.
    """
    return (
        templates("palimpsest.bench", "palimpsest.report")
        .get_template("bench.html.j2")
        .render(
            result=result,
            created=moment(result.created),
            facts=_facts(result),
            requests=next(iter(result.streams.values())),
            streams=streams(result),
            gaps=gap_picture(result),
            tables=table_views(result),
            noise=[
                (name, *(show_or_dash(number, DECIMALS.get(name, 2)) for number in value[:3]))
                for name, value in noise(result).items()
            ],
            stopped=stopped(result),
            curves=curve_views(result),
            request_tables=request_views(result),
            limits=caveats(result),
            bench=json.dumps(result.bench, indent=2, ensure_ascii=False),
        )
    )


def save_bench_html(result: BenchResult, path: Path) -> None:
    """Write the page; a reader sees the old file or the new one, never a part.

    Raises:
        DataError: the place cannot be written to.
    """
    write_atomic(path, render_bench(result))


def _facts(result: BenchResult) -> tuple[tuple[str, str], ...]:
    requests = next(iter(result.streams.values()))
    forgetting = sum(request.forget > 0 for request in requests)
    bench = result.bench
    return (
        ("Stream", Path(str(bench["stream"]["kind"])).name),
        ("Requests", f"{len(requests)}, {forgetting} of them to forget"),
        ("Seeds", ", ".join(map(str, result.streams))),
        ("Replay buffer", f"{bench['buffer']} examples"),
        ("Data", ", ".join(Path(str(source)).name for source in bench["data"])),
        ("Model", Path(str(bench["model"])).name),
    )
