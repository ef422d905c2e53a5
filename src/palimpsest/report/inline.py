"""A run as a notebook shows it: what was asked, the verdict with its gates, and the scores. The page has the rest."""

from __future__ import annotations

from html import escape

from palimpsest.report.brief import brief
from palimpsest.report.nouns import column_name
from palimpsest.report.numbers import interval_or_nothing, show_or_dash
from palimpsest.report.schema import RunResult, ScoreRow
from palimpsest.report.terminal import verdict
from palimpsest.report.view import row_keys


def inline(result: RunResult) -> str:
    """A fragment of HTML, a few thousand characters; every text in it is escaped.

    Args:
        result: the run.
    """
    lines = [line for line in verdict(result) if line.strip()]
    head = f"<p><b>{escape(lines[0])}</b></p>" if lines else ""
    facts = "".join(f"<li><b>{escape(name)}</b> {escape(value)}</li>" for name, value in brief(result))
    gates = "".join(f"<li>{escape(line.strip(' *'))}</li>" for line in lines[1:])
    return f"{head}<ul>{facts}</ul>{_scores(result)}<ul>{gates}</ul>"


def _scores(result: RunResult) -> str:
    columns = tuple(result.scores)
    head = "".join(f"<th>{escape(name)}</th>" for name in ("set", "metric", *map(column_name, columns)))
    rows = []
    for name, metric in row_keys(result):
        cells = [_cell(result.scores[column].get(name, {}).get(metric)) for column in columns]
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in (name, metric, *cells)))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _cell(score: ScoreRow | None) -> str:
    return (
        "–" if score is None else f"{show_or_dash(score.value)} {interval_or_nothing(score.low, score.high)}".rstrip()
    )
