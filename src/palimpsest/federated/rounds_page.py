"""One self-contained HTML page of a federation: loss, bytes and answers round by round, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from palimpsest.federated.rounds_facts import FederationFacts, RoundRow
from palimpsest.files import write_atomic
from palimpsest.in_words import so_many
from palimpsest.printed import fitted
from palimpsest.report.brief import moment
from palimpsest.report.figures import Line, curve
from palimpsest.report.nouns import column_name
from palimpsest.report.numbers import count, percent, show_or_dash
from palimpsest.report.page import templates
from palimpsest.report.schema import RunResult
from palimpsest.report.svg import number, picture, text
from palimpsest.report.view import row_keys

ROUNDS_PAGE = "rounds.html"
_TITLES = {"federate": "Learning in a federation", "erase": "A client taken out of a federation"}
_CELL, _GAP, _HEAD, _LINE = 22.0, 4.0, 22.0, 26.0
_LETTER, _LONGEST = 7.0, 26  # width of a letter of a name, and most letters of it
_MOST_ROUNDS = 60  # that are drawn


class Answered(NamedTuple):
    """One client in one round.

    Attributes:
        kind: class of the cell: "taught" answered, "known" taken from the history, "lost" absent, "" not asked.
        why: of one that was absent.
    """

    kind: str
    why: str = ""


def answer_of(row: RoundRow, client: str) -> Answered:
    """What a client did in a round.

    >>> row = RoundRow(number=0, what="learn", asked=("a",), told=(), absent={"a": "died"}, down=0, up=0, seconds=0,
    ...                client_seconds=0)
    >>> answer_of(row, "a"), answer_of(row, "b").kind
    (Answered(kind='lost', why='died'), '')
    """
    if client in row.absent:
        return Answered("lost", row.absent[client])
    if client in row.known:
        return Answered("known")
    return Answered("taught" if client in row.told else "")


def clients_of(facts: FederationFacts) -> tuple[str, ...]:
    """All that were asked, sorted; the one that goes is last."""
    seen = {name for row in facts.rounds for name in (*row.asked, *row.told)}
    return (*sorted(seen - {facts.gone}), *({facts.gone} & seen))


def answers_picture(facts: FederationFacts) -> Markup:
    """Rounds from left to right, clients from top to bottom: who answered."""
    names, rounds = clients_of(facts), facts.rounds[:_MOST_ROUNDS]
    left = 10 + _LETTER * max((min(len(name), _LONGEST) for name in names), default=0)
    parts = [_HATCH]
    for column, row in enumerate(rounds):
        x = left + column * (_CELL + _GAP)
        if column % 5 == 0 or len(rounds) <= 12:
            parts.append(text(x + _CELL / 2, 14, str(row.number + 1), "tick middle"))
        parts += [_cell(x, _HEAD + place * _LINE, answer_of(row, name)) for place, name in enumerate(names)]
    parts += [text(0, _HEAD + place * _LINE + 16, fitted(name, _LONGEST), "label") for place, name in enumerate(names)]
    width = left + max(1, len(rounds)) * (_CELL + _GAP)
    return picture("Who answered in which round", width, _HEAD + len(names) * _LINE + 4, Markup("").join(parts))


_HATCH = Markup(
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="paper" width="6" height="6"/><line class="hatch" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>'
)


def _cell(x: float, y: float, what: Answered) -> Markup:
    box = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>')
    title = Markup("<title>{}</title>").format(what.why) if what.why else Markup("")
    return box.format(what.kind or "empty", *map(number, (x, y, _CELL, _LINE - _GAP)), title)


def curves(facts: FederationFacts) -> list[Markup]:
    """Loss and bytes over the rounds; nothing where one point would be all."""
    if len(facts.rounds) < 2:
        return []
    losses = tuple((row.number + 1, row.loss) for row in facts.rounds if row.loss is not None)
    sizes, unit = _in_unit([row.down + row.up for row in facts.rounds])
    seconds = tuple((row.number + 1, row.client_seconds) for row in facts.rounds)
    lines = [
        Line("loss", "nats, before the local work", losses, along="rounds"),
        Line("exchanged", f"{unit}, both ways", tuple(enumerate(sizes, 1)), along="rounds"),
        Line("local work", "seconds of all clients", seconds, along="rounds"),
    ]
    return [curve(line) for line in lines if line.points]


def _in_unit(sizes: list[int]) -> tuple[list[float], str]:
    """Sizes in the unit that keeps the largest below a thousand or so."""
    units = ("bytes", "kB", "MB", "GB")
    power = min(3, max(0, (len(str(max(sizes, default=0))) - 1) // 3))
    return [size / 1000**power for size in sizes], units[power]


def amount(size: int) -> str:
    r"""A number of bytes in words.

    >>> amount(12_345_678).replace("\u00a0", " ")
    '12.3 MB'
    """
    (value,), unit = _in_unit([size])
    return f"{show_or_dash(value) if unit != 'bytes' else size}\u00a0{unit}"


def brief_of(facts: FederationFacts, result: RunResult) -> list[tuple[str, str]]:
    """The lines under the title."""
    asked = f"erase client {facts.gone}" if facts.gone else f"learn with {so_many(len(facts.examples), 'client')}"
    rows = ", ".join(f"{name} {count(rows)}" for name, rows in facts.examples.items())
    absences = sum(len(row.absent) for row in facts.rounds)
    both_ways = f"{amount(facts.down)} out, {amount(facts.up)} back"
    local = sum(row.client_seconds for row in facts.rounds)
    return [
        ("Asked", asked),
        ("Done", f"{facts.method}, {moment(result.created)}"),
        ("Ended", facts.ended),
        ("Clients", f"{rows} rows"),
        ("Exchanged", f"{count(facts.exchanged)} numbers ({facts.scope}); {both_ways}"),
        ("Time", f"{show_or_dash(facts.seconds)} s; {show_or_dash(local)} s of it local work"),
        ("Absent", f"{so_many(absences, 'time')}" if absences else "nobody"),
    ]  # fmt: skip


def beside_retraining(facts: FederationFacts) -> list[tuple[str, str, str, str]]:
    """The version with the client, without it, and the retrained one; empty where none was asked for."""
    found = facts.retrained
    if found is None:
        return []
    whole = sum(row.client_seconds for row in found.rounds)
    mine = sum(row.client_seconds for row in facts.rounds)
    share = "–" if found.seconds_share is None else percent(found.seconds_share)
    size, other = facts.down + facts.up, sum(row.down + row.up for row in found.rounds)
    return [
        ("distance to retraining", show_or_dash(found.before, 4), show_or_dash(found.after, 4), "0"),
        ("rounds", "–", str(len(facts.rounds)), str(len(found.rounds))),
        ("bytes", "–", amount(size), amount(other)),
        ("seconds of local work", "–", f"{show_or_dash(mine)} ({share})", show_or_dash(whole)),
    ]


def render_rounds(facts: FederationFacts, result: RunResult) -> str:
    """The page of a federation.

    Returns:
        A whole HTML document. Everything that came from the user is escaped.
    """
    scores = [
        (name, metric, [_score(result, column, name, metric) for column in result.scores])
        for name, metric in row_keys(result)
    ]
    return (
        templates("palimpsest.federated", "palimpsest.bench", "palimpsest.report")
        .get_template("rounds.html.j2")
        .render(
            title=_TITLES[facts.kind],
            facts=facts,
            brief=brief_of(facts, result),
            curves=curves(facts),
            answers=answers_picture(facts),
            absences=[(row.number + 1, name, why) for row in facts.rounds for name, why in row.absent.items()],
            left_out=max(0, len(facts.rounds) - _MOST_ROUNDS),
            columns=[column_name(column) for column in result.scores],
            scores=scores,
            beside=beside_retraining(facts),
            rounds=[_round_cells(row) for row in facts.rounds],
            notes=result.notes,
        )
    )


def _score(result: RunResult, column: str, name: str, metric: str) -> str:
    row = result.scores[column].get(name, {}).get(metric)  # type: ignore[index]
    return "–" if row is None else show_or_dash(row.value)


def _round_cells(row: RoundRow) -> tuple[str, ...]:
    loss = show_or_dash(row.loss, 4)
    answers = f"{len(row.told)} of {len({*row.asked, *row.known})}"
    return (str(row.number + 1), row.what, loss, answers, amount(row.down), amount(row.up), show_or_dash(row.seconds))


def save_rounds_page(facts: FederationFacts, result: RunResult, path: Path) -> None:
    """Write the page; a reader sees the old file or the new one, never a part.

    Raises:
        DataError: the place cannot be written to.
    """
    write_atomic(path, render_rounds(facts, result))
