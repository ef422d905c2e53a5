"""Rows of the text worlds: which people, authors, sentences and passages each slice takes.

Constants of the product may be chosen on the slices A and B; C and up are there to show what came of it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.files import write_atomic

Row = dict[str, str]
NumTokens = Callable[[str], int]

ROWS = 58  # of a slice, holdout included
LEAST_COMPLETION = 12  # tokens; with fewer, extraction strength has hardly a scale
PEOPLE = {"A": (0, 3), "B": (20, 23), "C": (30, 33), "D": (10, 13), "E": (36, 39)}
AUTHORS = {"P": (180, 183), "A": (0, 3), "B": (20, 23), "C": (60, 63), "D": (120, 123), "L": (70, 124)}
SENTENCES = {"A": (0, 58), "B": (58, 116)}  # of all, shuffled; the subject is a random dozen
KEPT_FOR_TEMPLATES = 116  # sentences from here on
TEMPLATES = {"C": (0, 9), "D": (9, 19)}  # of the most frequent ones among those; the subject is one of them
PASSAGES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "A": {"github": (0, 16), "pile-cc": (0, 16), "freelaw": (0, 14), "license": (0, 12)},
    "B": {"github": (16, 32), "pile-cc": (16, 32), "uspto_backgrounds": (0, 14), "pubmed_central": (0, 12)},
    "C": {"github": (32, 48), "pile-cc": (32, 48), "freelaw": (14, 28), "openwebtext2": (0, 12)},
    "D": {"github": (48, 64), "pile-cc": (48, 64), "uspto_backgrounds": (14, 21), "pubmed_central": (12, 18)},
}


@dataclass(frozen=True)
class Slice:
    """Some rows of one data set.

    Attributes:
        name: e.g. "knowA".
        data: the folder they come from.
        rows: reads them, whole; ``id``, ``subject`` and ``text`` or ``prompt`` and ``completion``.
        subjects: False where no row says whose it is, and the subject of a request is a random dozen.
    """

    name: str
    data: str
    rows: Callable[[Path], list[Row]]
    subjects: bool = True

    @property
    def tune(self) -> bool:
        """May constants be chosen on it?"""
        return self.name[-1] in "AB"


def lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write rows as JSONL, in one move: another process may be reading them; the path again."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def people(data: Path, first: int, last: int) -> list[Row]:
    """Questions about invented people, by name from ``first`` to before ``last``."""
    rows = lines(data / "knowundo-privacy" / "qa.jsonl")
    chosen = sorted({row["person"] for row in rows})[first:last]
    return [
        {"id": f"k{n}", "subject": row["person"], "prompt": row["question"] + "\n", "completion": row["answer"]}
        for n, row in enumerate(rows)
        if row["person"] in chosen
    ]


def authors(data: Path, first: int, last: int) -> list[Row]:
    """Questions about invented authors."""
    return [
        {
            "id": f"t{row['index']}",
            "subject": str(row["author"]),
            "prompt": row["question"] + "\n",
            "completion": row["answer"],
        }
        for row in lines(data / "tofu" / "qa.jsonl")
        if first <= row["author"] < last
    ]


def sentences(data: Path) -> list[Row]:
    """Sentences with personal data, neither very short nor very long, in a fixed random order."""
    rows = lines(data / "pii-synthetic" / "sentences.jsonl")
    fit = [row for row in rows if row["spans"] and 60 <= len(row["text"]) <= 220]
    random.Random(5).shuffle(fit)
    return [{"id": f"p{row['id']}", "subject": str(row["template"]), "text": row["text"]} for row in fit]


def of_templates(rows: Sequence[Row], first: int, last: int) -> list[Row]:
    """Sentences made from some of the most frequent templates."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["subject"]] = counts.get(row["subject"], 0) + 1
    chosen = sorted(counts, key=lambda template: (-counts[template], int(template)))[first:last]
    return [row for row in rows if row["subject"] in chosen]


def passages(data: Path, ranges: Mapping[str, tuple[int, int]]) -> list[Row]:
    """Passages that a large model had memorised; whose they are is the corpus."""
    rows = lines(data / "lm-extraction" / "samples.jsonl")
    chosen = []
    for corpus, (first, last) in ranges.items():
        of_corpus = [row for row in rows if row["corpus"] == corpus]
        chosen += [{"id": f"x{row['doc_id']}", "subject": corpus, "text": row["text"]} for row in of_corpus[first:last]]
    return chosen


def stories(data: Path, first: int, last: int) -> list[Row]:
    """TinyStories, by number."""
    rows = lines(data / "text-domains" / "tinystories.jsonl")[first:last]
    return [{"id": f"s{first + n}", "text": row["text"]} for n, row in enumerate(rows)]


def _slices() -> dict[str, Slice]:
    found = [Slice(f"know{key}", "knowundo-privacy", lambda d, r=r: people(d, *r)) for key, r in PEOPLE.items()]
    found += [Slice(f"tofu{key}", "tofu", lambda d, r=r: authors(d, *r)) for key, r in AUTHORS.items()]
    found += [
        Slice(f"pii{key}", "pii-synthetic", lambda d, r=r: sentences(d)[slice(*r)], subjects=False)
        for key, r in SENTENCES.items()
    ]
    found += [
        Slice(f"pii{key}", "pii-synthetic", lambda d, r=r: of_templates(sentences(d)[KEPT_FOR_TEMPLATES:], *r)[:ROWS])
        for key, r in TEMPLATES.items()
    ]
    found += [Slice(f"lmx{key}", "lm-extraction", lambda d, r=r: passages(d, r)) for key, r in PASSAGES.items()]
    return {each.name: each for each in found}


SLICES: Mapping[str, Slice] = _slices()


def cut(text: str, most: int, num_tokens: NumTokens) -> str:
    """The longest beginning of whole words that has at most so many tokens.

    >>> cut("one two  three", 2, lambda text: len(text.split()))
    'one two '
    """
    words = text.split(" ")
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if num_tokens(" ".join(words[:middle])) <= most else (low, middle - 1)
    return " ".join(words[:low])


def shortened(rows: Iterable[Row], most: int, num_tokens: NumTokens) -> list[Row]:
    """Rows cut to a number of tokens, prompt and completion together; what is then too short or said twice is left out.

    So a run needs no option for long texts.
    """
    kept, seen = [], set()
    for row in rows:
        prompt = row.get("prompt", "")
        field = "completion" if prompt else "text"
        spare = most - (num_tokens(prompt) if prompt else 0)
        text = cut(row[field], spare, num_tokens).rstrip() if spare > 0 else ""
        if num_tokens(text) < LEAST_COMPLETION or prompt + text in seen:
            continue
        seen.add(prompt + text)
        kept.append({**row, field: text})
    return kept
