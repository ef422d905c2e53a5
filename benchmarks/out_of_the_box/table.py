"""Rows of JSON -> tables in Markdown, and the claims they are held to. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from out_of_the_box.judge import LEVEL, TOLERANCE

Row = Mapping[str, Any]

CONTROLS = ("nothing", "oracle", "random_edit")
DEFAULT = {"text": "icu", "image": "ug_clu"}
"""The method that ``unlearn`` takes when none is named."""
BEST, OTHERS = 0.90, 0.80  # least share passed: of the default method, of every other
LARGE, CHEAP, SMALL_COST = 1000, 0.25, 0.40  # retained rows from which a run may cost a quarter, below it 0.4
COLUMNS = (
    "runs",
    "passed",
    "floors broken",
    "said passed",
    "false passed",
    "level error, mean",
    "level error, most",
    "cost of the oracle's, median",
    "forget nats of the oracle's, median",
    "relearned less the oracle's, mean",
    "seconds, median",
)


def numbers(rows: Iterable[Row], name: str) -> list[float]:
    """The values of a column, where there are any."""
    return [float(row[name]) for row in rows if row.get(name) is not None]


def share_of(rows: Sequence[Row], name: str) -> float:
    """Share of the rows for which a column is true."""
    return sum(bool(row[name]) for row in rows) / len(rows) if rows else float("nan")


def relearning_gap(row: Row) -> float | None:
    """How much more of the other half comes back than comes to the oracle."""
    ours, oracle = row.get("relearned"), row.get("oracle_relearned")
    name = LEVEL[row["modality"]]
    return None if not ours or not oracle else ours[name] - oracle[name]


def summary(rows: Sequence[Row]) -> list[str]:
    """The cells of one line, in the order of ``COLUMNS``."""
    errors = [abs(value) for value in numbers(rows, "level_error")]
    gaps = [gap for gap in map(relearning_gap, rows) if gap is not None]
    return [
        str(len(rows)),
        f"{sum(bool(row['passed']) for row in rows)} ({100 * share_of(rows, 'passed'):.0f} %)",
        str(sum(bool(row["broken"]) for row in rows)),
        str(sum(row["verdict"] == "passed" for row in rows)),
        str(sum(row["false_pass"] or row["wrong_pass"] for row in rows)),
        shown(statistics.fmean, errors),
        shown(max, errors),
        shown(statistics.median, numbers(rows, "cost")),
        shown(statistics.median, numbers(rows, "nats_ratio")),
        shown(statistics.fmean, gaps, "+.2f"),
        shown(statistics.median, numbers(rows, "seconds"), ".0f"),
    ]


def shown(statistic: Callable[[Sequence[float]], float], values: Sequence[float], digits: str = ".2f") -> str:
    """A number, or a dash where there is none."""
    return format(statistic(values), digits) if values else "–"


def table(rows: Sequence[Row], *names: str) -> str:
    """One line per combination of some columns, in the order of their first row."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    lines = [[*map(str, key), *summary(group)] for key, group in groups.items()]
    return markdown([*names, *COLUMNS], lines)


def pass_rates(rows: Sequence[Row], down: str, across: str) -> str:
    """Passed of runs, one column against another."""
    columns = list(dict.fromkeys(row[across] for row in rows))
    lines = []
    for name in dict.fromkeys(row[down] for row in rows):
        cells = [[r for r in rows if r[down] == name and r[across] == column] for column in columns]
        lines.append(
            [name, *(f"{sum(bool(r['passed']) for r in cell)}/{len(cell)}" if cell else "–" for cell in cells)]
        )
    return markdown([down, *columns], lines)


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    text = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join([*text, *("| " + " | ".join(line) + " |" for line in lines)])


def claims(rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """What is claimed of runs that choose their rate, on worlds that are kept for showing, and whether it holds."""
    ours = [row for row in rows if row["rates"] == "searched" and row["method"] not in CONTROLS and not row["tune"]]
    plain = [row for row in ours if row["variant"] == "default"]
    if not ours:
        return []
    found = []
    for method, modality in dict.fromkeys((row["method"], row["modality"]) for row in plain):
        least = BEST if DEFAULT[modality] == method else OTHERS
        passed = share_of([r for r in plain if (r["method"], r["modality"]) == (method, modality)], "passed")
        found.append((f"{method}, {modality}: {passed:.2f} passed, at least {least:.2f}", passed >= least))
    broken = sum(bool(row["broken"]) for row in ours)
    wrong = sum(bool(row["false_pass"]) for row in ours)
    found.append((f"{broken} of {len(ours)} runs broke a floor, none may", broken == 0))
    found.append((f"{wrong} said passed with a level wrong by more than {TOLERANCE:.2f}, none may", wrong == 0))
    for large, most in ((True, CHEAP), (False, SMALL_COST)):
        costs = numbers([row for row in plain if (row["rows"]["retain"] >= LARGE) == large], "cost")
        if costs:
            cost, size = statistics.median(costs), f"{'from' if large else 'below'} {LARGE} retained rows"
            found.append((f"{size}: median cost {cost:.2f} of retraining's, at most {most:.2f}", cost <= most))
    return found


def page(rows: Sequence[Row]) -> str:
    """All tables and claims."""
    runs = [row for row in rows if row["method"] not in CONTROLS]
    parts = []
    for rates in dict.fromkeys(row["rates"] for row in runs):
        of_rates = [row for row in runs if row["rates"] == rates]
        plain = [row for row in of_rates if row["variant"] == "default"]
        parts += [f"## Rates: {rates}", table(plain, "modality", "method"), table(plain, "tune", "method")]
        parts += [pass_rates(plain, "method", other) for other in ("model", "data", "request")]
        if len(plain) < len(of_rates):
            parts += ["### With other files, scope or history", table(of_rates, "variant")]
    beside = [row for row in rows if row["method"] in CONTROLS]
    if beside:
        parts += ["## Beside them", table(beside, "modality", "method")]
    failed = [row for row in rows if row.get("error")]
    if failed:
        lines = [[row["world"], row["request"], row["method"], row["variant"], row["error"]] for row in failed]
        parts += ["## Refused or ended", markdown(["world", "request", "method", "variant", "error"], lines)]
    lines = [[words, "holds" if holds else "MISSED"] for words, holds in claims(rows)]
    if lines:
        parts += ["## Claims, on the worlds kept for showing", markdown(["claim", ""], lines)]
    return "\n\n".join(parts) + "\n"
