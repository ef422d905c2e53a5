"""What the page shows, as plain rows: the template only lays them out."""

from __future__ import annotations

from typing import NamedTuple

from palimpsest.report.numbers import NONE, count, interval, show
from palimpsest.report.schema import Column, CostRow, RunResult, ScoreRow

SET_ORDER = ("forget", "learn", "retain", "analogous", "holdout", "general")
MAX_EXAMPLES = 500
"""Rows of the per-example table; the JSON twin has them all."""

FULL_NAMES = {
    "es": "extraction strength",
    "ma": "memorization accuracy",
    "el": "extraction likelihood",
    "em": "exact memorization",
    "prob": "answer probability",
    "ppl": "perplexity",
}
COST_NAMES = {
    "preparing": "preparing: masks, pairs, levels",
    "level": "of it: level of never seen, own words, first readings",
    "training": "training",
    "steps": "of it: steps of the method, of the sweep and of repair",
    "readings": "of it: readings",
    "snapshots": "of it: snapshots",
    "before": "measuring before",
    "after": "measuring after",
    "oracle": "measuring the oracle",
    "oracle_training": "training the oracle",
}


class Cell(NamedTuple):
    """One value of the main table, written out."""

    value: str
    interval: str
    n: str
    unscored: str


class MetricRow(NamedTuple):
    """One metric of one set."""

    metric: str
    full_name: str
    arrow: str
    direction: str
    unit: str
    cells: tuple[Cell, ...]


class SetRows(NamedTuple):
    """The metrics of one set."""

    name: str
    size: str
    rows: tuple[MetricRow, ...]


class ExampleRows(NamedTuple):
    """The per-example table of one set."""

    set: str
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    total: int


class CostLine(NamedTuple):
    """One line of the cost table."""

    name: str
    seconds: str
    tokens: str
    mebibytes: str


def row_keys(result: RunResult) -> tuple[tuple[str, str], ...]:
    """Every (set, metric) of a run: sets in the order forget, learn, retain, ..., metrics as they were measured."""
    seen = [(name, metric) for sets in result.scores.values() for name, metrics in sets.items() for metric in metrics]
    names = list(dict.fromkeys(name for name, _ in seen))
    names.sort(key=lambda name: SET_ORDER.index(name) if name in SET_ORDER else len(SET_ORDER))
    metrics = list(dict.fromkeys(metric for _, metric in seen))
    return tuple((name, metric) for name in names for metric in metrics if (name, metric) in set(seen))


def any_score(result: RunResult, name: str, metric: str) -> ScoreRow | None:
    """The score of a metric on a set in the first column that has it: for its unit and direction."""
    found = (sets.get(name, {}).get(metric) for sets in result.scores.values())
    return next((score for score in found if score is not None), None)


def full_name(metric: str) -> str:
    """What the abbreviation stands for, or the key itself.

    >>> full_name("el_10"), full_name("mine")
    ('extraction likelihood', 'mine')
    """
    return FULL_NAMES.get(metric.partition("_")[0], metric)


def main_table(result: RunResult) -> tuple[SetRows, ...]:
    """The before / after / oracle table."""
    keys = row_keys(result)
    groups = []
    for name in dict.fromkeys(name for name, _ in keys):
        rows = tuple(_metric_row(result, name, metric) for owner, metric in keys if owner == name)
        size = f"{count(result.sets[name].n)} examples" if name in result.sets else ""
        groups.append(SetRows(name, size, rows))
    return tuple(groups)


def _metric_row(result: RunResult, name: str, metric: str) -> MetricRow:
    score = any_score(result, name, metric)
    direction = str(score.direction) if score else ""
    arrow = "↑" if direction.startswith("higher") else "↓"
    cells = tuple(_cell(sets.get(name, {}).get(metric)) for sets in result.scores.values())
    return MetricRow(metric, full_name(metric), arrow, direction, score.unit if score else "", cells)


def _cell(score: ScoreRow | None) -> Cell:
    if score is None:
        return Cell(NONE, "", "not measured", "")
    unscored = f"{count(score.unscored)} unscored" if score.unscored else ""
    return Cell(show(score.value), interval(score.low, score.high), f"n\u00a0{count(score.n)}", unscored)


def focus(result: RunResult) -> str | None:
    """The set the run is about: forget, else learn, else the first one measured."""
    names = [name for name, _ in row_keys(result)]
    return next((name for name in ("forget", "learn") if name in names), names[0] if names else None)


def example_table(result: RunResult) -> ExampleRows | None:
    """Values of each example of the focus set, at most ``MAX_EXAMPLES`` rows; None when there are none."""
    name = focus(result)
    if name is None:
        return None
    metrics = tuple(metric for owner, metric in row_keys(result) if owner == name)
    scores = [sets.get(name, {}).get(metric) for metric in metrics for sets in result.scores.values()]
    ids = list(dict.fromkeys(key for score in scores if score for key in score.by_id))
    if not ids:
        return None
    rows = tuple((key, tuple(show(score.by_id.get(key) if score else None) for score in scores)) for key in ids)
    return ExampleRows(name, metrics, rows[:MAX_EXAMPLES], len(ids))


def cost_table(result: RunResult) -> tuple[CostLine, ...]:
    """Seconds, tokens and peak memory of every part of the run."""
    names = sorted(
        result.cost, key=lambda name: list(COST_NAMES).index(name) if name in COST_NAMES else len(COST_NAMES)
    )
    return tuple(_cost_line(COST_NAMES.get(name, name), result.cost[name]) for name in names)


def _cost_line(name: str, cost: CostRow) -> CostLine:
    return CostLine(name, seconds(cost.seconds), count(cost.tokens), f"{cost.peak_bytes / 2**20:.1f}")


def seconds(value: float) -> str:
    """Seconds with one decimal, two below ten.

    >>> seconds(0.034), seconds(412.04)
    ('0.03', '412.0')
    """
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def oracle_share(result: RunResult) -> str:
    """Token positions of preparing and training as a share of the oracle's, or an empty string when one is unknown.

    Positions, not seconds: these depend on the machine and on what else runs there.
    """
    oracle = result.cost.get("oracle_training")
    if "training" not in result.cost or oracle is None or oracle.tokens == 0:
        return ""
    mine = sum(result.cost[name].tokens for name in ("preparing", "training") if name in result.cost)
    return f"{100 * mine / oracle.tokens:.1f}\u00a0%"


def facts(result: RunResult) -> tuple[tuple[str, str], ...]:
    """The few facts under the verdict: (name, value)."""
    rows = []
    name = focus(result)
    if name is not None and name in result.sets:
        rows.append((f"{name} set", f"{count(result.sets[name].n)} examples"))
    if worst := best_known(result):
        rows.append(("best known of it after", worst))
    if result.stopped:
        rows.append(("training ended by", result.stopped))
    if training := result.cost.get("training"):
        rows.append(("training time", f"{seconds(training.seconds)}\u00a0s"))
        if share := oracle_share(result):
            rows.append(("token positions", f"{share} of the oracle’s"))
        rows.append(("peak memory", f"{training.peak_bytes / 2**20:.0f}\u00a0MiB"))
    return tuple(rows)


def best_known(result: RunResult) -> str:
    """The example of the forget set that the model after knows best: a mean hides it. Empty without one."""
    scores = result.scores.get("after", {}).get("forget", {})
    metric = next((m for m in ("es", "accuracy") if m in scores), None)
    known = [(value, key) for key, value in scores[metric].by_id.items() if value is not None] if metric else []
    if len(known) < 2:
        return ""
    value, key = max(known, key=lambda pair: pair[0])
    return f"{key}, {metric} {show(value, 2)}"


def verdict_words(result: RunResult) -> str:
    """The verdict's sentence without the outcome that the page already says above it."""
    if result.verdict is None:
        return ""
    words = result.verdict.sentence
    prefix = f"{result.verdict.outcome.capitalize()}: "
    rest = words.removeprefix(prefix)
    return rest[:1].upper() + rest[1:]


def plain_words(result: RunResult) -> str:
    """The plain sentence without the outcome that the page already says above it; empty in files of 0.1.0."""
    if result.verdict is None:
        return ""
    rest = result.verdict.plain.removeprefix(f"{result.verdict.outcome.capitalize()}: ")
    return rest[:1].upper() + rest[1:]


def not_judged(result: RunResult) -> str:
    """What was looked at in a run that no gate was asked of, and how to have it judged."""
    name = focus(result)
    looked = [
        f"{name} {metric} {', '.join(f'{show(s.value, 2)} {column}' for column, s in found)}"
        for owner, metric in row_keys(result)
        if owner == name
        and (found := [(c, s[name][metric]) for c, s in result.scores.items() if metric in s.get(name or "", {})])
    ]
    return (
        f"Reported, not judged: {'; '.join(looked[:3]) or 'nothing was measured'}. For a verdict give --retain or "
        "--general, which must be kept, or gates in --plan."
    )


def columns(result: RunResult) -> tuple[Column, ...]:
    """The columns that were measured, in order."""
    return tuple(result.scores)
