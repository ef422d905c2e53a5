"""The tables of a bench for a terminal: at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from palimpsest.bench.results import MIXED, ORACLE, BenchResult
from palimpsest.bench.scores import Spread, spread
from palimpsest.bench.show.already_known import known_before
from palimpsest.bench.show.summary import DECIMALS, GAPS, STRENGTHS, BenchColumn, BenchTable, blocks, noise, table_of
from palimpsest.printed import fitted
from palimpsest.report.numbers import show_or_dash

MIXED_ROW = "calibrated: as much as keeps 95 % of ES, of images accuracy, of what remains"
CONSOLE_WIDTH, LABEL, CELL = 100, 22, 7
_TITLES = {
    "gaps": "distance to the oracle, points; of extraction strengths (ES), shares",
    "values": "values, points; of extraction strengths (ES), shares",
    "behaviour": "behaviour",
    "cost": "cost",
}


def tables(result: BenchResult) -> str:
    """Every table of a bench, what its columns are, and what was stopped."""
    parts = [_block(_TITLES[name], columns, table_of(result, columns)) for name, columns in blocks().items()]
    warnings = [textwrap.fill(f"Warning: {words}", CONSOLE_WIDTH) for words in known_before(result)]
    return "\n\n".join([*warnings, *parts, "\n".join(_remarks(result))]).rstrip()


def _block(title: str, columns: Sequence[BenchColumn], rows: BenchTable) -> str:
    names = list(next(iter(rows.values())))
    if not STRENGTHS.keys() & set(names):
        title = title.partition(";")[0]
    lines = [title, _line("", names, names)] if len(title) > LABEL else [_line(title, names, names)]
    lines.append("-" * len(lines[-1]))
    for label, values in rows.items():
        if label != ORACLE or columns is not GAPS:  # the oracle's distance to itself
            lines += _lines_of(label, values)
    return "\n".join([*lines, *textwrap.wrap(_legend(columns, names), CONSOLE_WIDTH, subsequent_indent="  ")])


def _lines_of(label: str, values: Mapping[str, Spread | None]) -> Iterator[str]:
    """The means of a row; below them, where there are several seeds, the lowest and the highest."""
    several = any(value is not None and value.n > 1 for value in values.values())
    for shown, field in ((label, "mean"), ("  lowest", "low"), ("  highest", "high"))[: 3 if several else 1]:
        yield _line(shown, [_written(name, value, field) for name, value in values.items()], list(values))


def _line(label: str, cells: Sequence[str], names: Sequence[str]) -> str:
    padded = [cell.rjust(max(CELL, len(name) + 1)) for cell, name in zip(cells, names, strict=True)]
    return (fitted(label, LABEL, "..").ljust(LABEL) + "".join(padded)).rstrip()


def _legend(columns: Sequence[BenchColumn], names: Sequence[str]) -> str:
    """What each column is, those of one kind together."""
    alike: dict[str, list[str]] = {}
    for column in columns:
        if column.name in names:
            alike.setdefault(column.about, []).append(column.name)
    return "; ".join(f"{', '.join(those)}: {about}" for about, those in alike.items())


def _written(name: str, value: Spread | None, field: str) -> str:
    return "-" if value is None else show_or_dash(getattr(value, field), DECIMALS.get(name, 2))


def _remarks(result: BenchResult) -> Iterator[str]:
    for name, value in noise(result).items():
        yield f"{name} between two oracles that differ in their seed alone: {_written(name, value, 'mean')}"
    for label, words in calibrated_rows(result).items():
        yield from textwrap.wrap(f"{label}: {words}", CONSOLE_WIDTH, subsequent_indent="  ")
    for label, seed, number, reason in stopped(result):
        yield from textwrap.wrap(
            f"stopped: {label}, seed {seed}, request {number}: {reason}", CONSOLE_WIDTH, subsequent_indent="  "
        )


def calibrated_rows(result: BenchResult) -> dict[str, str]:
    """Row that was calibrated -> how much of its changes stayed."""
    found = {}
    for label, seeds in result.rows.items():
        steps = [step.calibrated for steps in seeds.values() for step in steps if step.calibrated is not None]
        share, uneven = spread([step.alpha for step in steps]), max((step.uneven for step in steps), default=0.0)
        if label.endswith(MIXED) and share is not None:
            stayed = f"{_written('', share, 'mean')} of what it changed to forget stays ({MIXED_ROW})"
            found[label] = f"{stayed}; the largest step back up along the way is {show_or_dash(uneven)}"
    return found


def stopped(result: BenchResult) -> list[tuple[str, int, int, str]]:
    """Row, seed, request and reason of everything that was rejected."""
    return [
        (label, seed, number, step.stopped)
        for label, seeds in result.rows.items()
        for seed, steps in seeds.items()
        for number, step in enumerate(steps)
        if step.stopped is not None
    ]
