"""CodeUnlearn: one more word of TinyStories deleted, from the model of stories of ``codes.py``.

    python benchmarks/codes_topic.py --data ../shared/data --output DIR --topic fish,fishes

Beside a model that learned the same without rows that say it, and as many random codes. DIR is that of ``codes.py``;
what is there is taken as it is.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from codes import (
    BOOK,
    HELD_OUT,
    LEARNED,
    OPTIONS,
    Row,
    deleted,
    done,
    num_deleted,
    page,
    story_rows,
    taught,
    word_losses,
    write_lines,
)
from palimpsest.models.load import load


def another_topic(data: Path, world: Path, steps: int, words: Sequence[str]) -> list[dict[str, Any]]:
    """One more word deleted, beside a model that learned the same without it and as many random codes.

    Losses are of rows held out: of the word, of the rest of its rows, and of rows without it.
    """
    world.mkdir(parents=True, exist_ok=True)
    topic, start = words[0], (data / "llama-stories260k").resolve()
    rows, test = story_rows(data, *LEARNED), story_rows(data, *HELD_OUT)
    (own, rest), (asked, general) = (
        [[row for row in found if says(row, words) is wanted] for wanted in (True, False)] for found in (rows, test)
    )
    training = {"learning_rate": 2e-3, "max_steps": steps, "batch_size": 16}
    coded, oracle = world / "coded", world / f"{topic}-oracle"
    taught(start, write_lines(world / "learn.jsonl", rows), coded, training, BOOK)
    taught(start, write_lines(world / f"{topic}-rest.jsonl", rest), oracle, training, BOOK)
    forget = write_lines(world / f"{topic}-forget.jsonl", own[:150])
    stays = write_lines(world / f"{topic}-retain.jsonl", rest[:100])
    found, places = [], {"learned": coded, "without": oracle}
    for name in ("default", "random"):
        places[name] = world / f"{topic}-{name}"
        deleted(coded, forget, places[name], OPTIONS[name], words, retain=stays)
    for name, place in places.items():
        loaded = load(place)
        word, beside = word_losses(loaded.model, loaded.tokenizer, asked[:80], words)
        other = word_losses(loaded.model, loaded.tokenizer, general[:80], words)[1]
        found.append({"row": name, "codes": num_deleted(place), topic: word, f"beside {topic}": beside})
        found[-1] |= {"general ppl": float(np.exp(other)), "positions": done(place).cost["training"].tokens}
    return found


def says(row: Row, words: Sequence[str]) -> bool:
    """Has a row one of some words?"""
    return bool(set(re.findall(r"[a-z]+", row["text"].lower())) & set(words))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where llama-stories260k and text-domains are")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=250, help="of learning stories")
    parser.add_argument("--topic", required=True, help="a word with its forms, joined by commas")
    arguments = parser.parse_args()
    world = arguments.output.resolve() / "stories"
    print(page(another_topic(arguments.data, world, arguments.steps, arguments.topic.split(","))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
