"""One self-contained HTML page per run: no scripts, no network, no fonts but the reader's own."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from palimpsest.files import write_atomic
from palimpsest.printed import printable
from palimpsest.report.brief import brief, oracle_share, request_rows
from palimpsest.report.cards import cards
from palimpsest.report.edit_info import edited_lines, neuron_head, neuron_table
from palimpsest.report.given_back import given_back
from palimpsest.report.glossary import glossary
from palimpsest.report.guard_info import guarded_lines
from palimpsest.report.limits import limits
from palimpsest.report.meaning import BOUND, ORIGINS, UNLEARNING, meaning, where_to
from palimpsest.report.nouns import column_name, of_images, passed_through
from palimpsest.report.panels import bar_panels, curve_panels
from palimpsest.report.prompt_info import PROMPT_HEAD, prompt_table
from palimpsest.report.row_places import with_places
from palimpsest.report.schema import RunResult
from palimpsest.report.view import (
    MAX_EXAMPLES,
    columns,
    cost_table,
    example_tables,
    focus,
    main_table,
    not_judged,
    plain_words,
    row_keys,
    verdict_words,
)

PAGE = "report.html"
MARK = "Made by Palimpsest from <code>result.json</code>"  # in the footer of every page there ever was
_TITLES = {
    "learn": "Learning report",
    "unlearn": "Unlearning report",
    "update": "Update report",
    "measure": "Measurement",
    "calibrate": "Calibration",
    "harden": "Hardening report",
    "federate": "Federation report",
    "erase": "Report of a client's erasure",
}


@cache
def templates(*packages: str) -> Environment:
    """The templates of packages, the first one's before the others'; everything put into them is escaped.

    Made once a process, so that a template is compiled once.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def visible(value: object) -> object:
    r"""What is put into a page, where it is text: no codes that hide or turn what is beside it.

    >>> print(visible("Ann\u202e\x1b[2J"))
    Ann\u202e\x1b[2J
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):  # markup is ours
        return value
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in value.split("\n"))


def render(result: RunResult) -> str:
    """The page of a run.

    Args:
        result: the run.

    Returns:
        A whole HTML document. Everything that came from the user is escaped.
    """
    result = with_places(result, handed_on=True)
    return (
        templates("palimpsest.report")
        .get_template("report.html.j2")
        .render(
            run=result,
            title=_TITLES[result.kind],
            plan=json.dumps(result.plan, indent=2, ensure_ascii=False),
            **_head(result),
            **_evidence(result),
        )
    )


def _head(result: RunResult) -> dict[str, object]:
    """What the first screen shows, and what the models say."""
    return {
        "verdict_words": verdict_words(result),
        "plain_words": plain_words(result),
        "not_judged": not_judged(result),
        "origin": ORIGINS.get(result.oracle_origin or "", ""),
        "brief": brief(result),
        "request_rows": request_rows(result),
        "given_back": given_back(result),
        "guarded": guarded_lines(result),
        "edited": edited_lines(result),
        "neuron_head": neuron_head(result),
        "neurons": neuron_table(result),
        "prompt_head": PROMPT_HEAD,
        "prompts": prompt_table(result),
        "cards": cards(result),
        "focus": focus(result),
        "forgets": "forget" in result.sets,
        "unlearns": result.kind in UNLEARNING,
    }


def _evidence(result: RunResult) -> dict[str, object]:
    """Tables, figures and what they mean."""
    images = of_images(result)
    metrics = tuple(dict.fromkeys(metric for _, metric in row_keys(result)))
    table = main_table(result)
    return {
        "images": images,
        "passed_through": passed_through(result),
        "meaning": meaning(result),
        "where_to": where_to(result),
        "glossary": glossary(metrics, images=images),
        "bound": BOUND if result.kind in UNLEARNING else "",
        "columns": columns(result),
        "column_name": column_name,
        "table": table,
        "any_worst": any(row.worst for group in table for row in group.rows),
        "bar_panels": bar_panels(result),
        "curve_panels": curve_panels(result),
        "example_tables": example_tables(result),
        "max_examples": MAX_EXAMPLES,
        "costs": cost_table(result),
        "oracle_share": oracle_share(result),
        "limits": limits(result),
    }


def save_html(result: RunResult, path: str | Path) -> None:
    """Write the page; a reader sees the old file or the new one, never a part.

    Raises:
        DataError: the place cannot be written to.
    """
    write_atomic(Path(path), render(result))


def without_answers(path: Path) -> RunResult:
    """Take what the models said out of a run's record, and out of the page beside it.

    The page goes first: whoever is stopped in between finds the answers in the record, and does it all again.

    Args:
        path: the result.json.

    Raises:
        DataError: it is none, or the place cannot be written to.
    """
    result = RunResult.load(path)
    if result.answers:
        result = result.model_copy(update={"answers": ()})
        page = path.with_name(PAGE)
        if page.exists():
            save_html(result, page)
        result.save_json(path)
    return result
