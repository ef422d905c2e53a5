"""Writes ``docs/families.md``: every method, what it asks for and keeps, and which one to use, as measured.

    python docs/families.py                      # the page on standard output
    python docs/families.py docs/families.md

The tables come from the methods' own files (``palimpsest methods --json`` has the same), the choice from
``docs/results/language.jsonl``, which ``benchmarks/language.py`` measured. Nothing here was typed by hand but the
sentences between them, so the page cannot promise what was not seen.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palimpsest import derived, methods
from palimpsest.cli.listing import APPROACH_WORDS
from palimpsest.cli.option_rows import first_sentence
from palimpsest.method_card import MethodCard

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "docs" / "results" / "language.jsonl"
NEAR, KEPT, GENERAL = 0.10, 0.90, 1.10  # of the oracle's ES; shares of before
Row = Mapping[str, Any]
HEAD = """# Every way to forget, and which one to use

Made by `python docs/families.py docs/families.md` from the code and from what was measured. `palimpsest methods` lists
the same families, `palimpsest methods NAME` has equation, source and options of one.
"""
LEGEND = """Needs: sets that must be given; *made* sets the run makes itself. Reference: the model before is asked, too.
History: what the learn run must have kept. Gradients: none = one edit, or a module beside the weights.
"""


def page() -> str:
    """The whole page."""
    cards = [methods.card(name) for name in methods.names()]
    parts = [HEAD, "## Which one should I use?\n", chosen(rows()), "## The families\n", LEGEND]
    for way, words in APPROACH_WORDS.items():
        own = [card for card in cards if card.approach == way]
        if own:
            parts += [f"### {words[0].upper()}{words[1:]}\n", table(own)]
    return "\n".join(parts)


def table(cards: Sequence[MethodCard]) -> str:
    """One family: a line per method."""
    head = ["method", "for", "needs", "may use", "reference", "history", "gradients", "use when"]
    lines = [_line(head), "|---" * len(head) + "|"]
    return "\n".join([*lines, *(_line(_cells(card)) for card in cards), ""])


def _cells(card: MethodCard) -> Iterator[str]:
    yield f"`{card.name}`"
    yield ", ".join("text classes" if kind == "labels" else f"{kind}s" for kind in methods.works_on(card))
    made = derived.of_needs(card.needs)
    groups = [" or ".join(group) for group in card.one_of]
    yield ", ".join([*(f"*{name}*" if name in made else name for name in card.needs), *groups]) or "–"
    yield ", ".join(card.uses) or "–"
    yield "yes" if methods.load(card.name).reference_sets else "–"
    yield ", ".join(card.reads) or ("the base" if card.starts_from == "base" else "–")
    yield "none" if card.edits else "yes"
    yield first_sentence(card.use_when) or "–"


def rows() -> list[Row]:
    """What was measured; refused rows left out."""
    if not MEASURED.is_file():
        return []
    found = [json.loads(line) for line in MEASURED.read_text(encoding="utf-8").splitlines()]
    return [row for row in found if "refused" not in row]


def chosen(measured: Sequence[Row]) -> str:
    """The answer of the tables: who got there, what it cost, what came back."""
    beside = {(row["world"], row["seed"], row["method"]): row for row in measured}
    judged: dict[str, list[tuple[Row, bool]]] = {}
    for row in measured:
        if row["method"] in methods.names() and not methods.card(row["method"]).yardstick:
            place = (row["world"], row["seed"])
            holds = passes(row, beside[*place, "oracle"], beside[*place, "nothing"])
            judged.setdefault(row["method"], []).append((row, holds))
    order = sorted(judged, key=lambda name: (is_guard(name), -share(judged[name]), positions(judged[name]), name))
    requests = len({(row["world"], row["seed"]) for row in measured})
    return "\n".join([told(requests), *_choice(order, judged), ""])


def told(requests: int) -> str:
    """How it was judged, in words."""
    many = "one request" if requests == 1 else f"{requests} requests"
    return (
        f"Measured on {many} of [language.md](language.md) (a small Llama, invented people and authors). "
        f"A run *got there* where forget ES ends at most {NEAR:.2f} above the oracle's, retain ES at {KEPT:.2f} of "
        f"before or more, and general perplexity at {GENERAL:.2f} times before or less. Sorted by how often, then by "
        "positions, guards last: whoever takes their part off has all of it again. *Back* is forget ES of one half "
        "after the other half was taught again; – where a run could not be taught, because its weights know it all.\n"
    )


def passes(row: Row, oracle: Row, before: Row) -> bool:
    """Did a run get there?"""
    near = row["forget es"] - oracle["forget es"] <= NEAR
    kept = row["retain es"] >= KEPT * before["retain es"]
    return near and kept and row["general ppl"] <= GENERAL * before["general ppl"]


def is_guard(name: str) -> bool:
    """Does the model know all of it behind a part?"""
    return methods.card(name).approach == "guard"


def share(judged: Sequence[tuple[Row, bool]]) -> float:
    """Share of the requests on which a method got there."""
    return statistics.fmean(holds for _, holds in judged)


def positions(judged: Sequence[tuple[Row, bool]]) -> float:
    """Mean of token positions."""
    return statistics.fmean(row.get("positions", 0) for row, _ in judged)


def _choice(order: Sequence[str], judged: Mapping[str, Sequence[tuple[Row, bool]]]) -> Iterator[str]:
    head = ["method", "got there", "forget ES", "retain ES", "back", "positions", "seconds", "family"]
    yield _line(head)
    yield "|---" * len(head) + "|"
    for name in order:
        own = [row for row, _ in judged[name]]
        cells = [f"`{name}`", f"{sum(holds for _, holds in judged[name])}/{len(own)}"]
        cells += [_mean(own, key, 2) for key in ("forget es", "retain es")]
        cells.append(_mean(own, "relearned es", 2) if all("relearned es" in row for row in own) else "–")
        cells += [_mean(own, key, 0) for key in ("positions", "seconds")]
        yield _line([*cells, methods.card(name).approach])


def _mean(own: Sequence[Row], key: str, digits: int) -> str:
    values = [row[key] for row in own if key in row]
    return f"{statistics.fmean(values):,.{digits}f}" if values else "–"


def _line(cells: Iterator[str] | Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
