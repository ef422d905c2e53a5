"""Values and runs on every causal language model of transformers, at tiny size with random weights.

Per model type of ``tests/hardening/architectures.py``: the largest difference of ma, es, prob (from one pass over each
row alone) and el (from one pass per prefix and token) to a literal computation, at batch sizes 1 and 32; and whether
``unlearn`` with npo, icu and ug_clu, all parameters and LoRA, ends with a folder that answers as the model that was
trained (the run itself compares them, and refuses what differs).

    python benchmarks/architectures.py --json rows.jsonl            # all; goes on where it stopped
    python benchmarks/architectures.py --json rows.jsonl --only llama,mamba
    python benchmarks/architectures.py --json rows.jsonl --runs none  # values alone
    python benchmarks/architectures.py --table rows.jsonl           # docs/architectures.md
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers
from tests.hardening.architectures import ARCHITECTURES, tiny
from tests.hardening.tiny import byte_tokenizer, fitted, id_rows, literal_values, saved, scores_of

import palimpsest as pal
from palimpsest.errors import PalimpsestError
from palimpsest.models.caches import whole_cache
from palimpsest.models.load import count_parameters
from palimpsest.records import Example, TokenIds

EXACT = 1e-6
METHODS, SCOPES = ("npo", "icu", "ug_clu"), ("all", "lora")
LENGTHS = {"forget": (5, 13, 9), "retain": (6, 8, 7, 10), "holdout": (7, 9, 12)}
SUMMARY = """{} kinds of causal language models of transformers {}, each at tiny size with random weights that went over
three rows a little. On {} of them every value of ma, es, prob and el equals a literal computation to {:g}, with batch
sizes 1 and 32. On {} of the {} on which they were run, unlearning with npo, icu and ug_clu, of all parameters and by
LoRA, ended with a folder that answers as the model that was trained.

What is no causal LM (BERT and the like without `is_decoder`, XLNet) is refused when it is loaded. Where keys and values
are not shared (states, convolutions, positions that depend on the length), EL reads each continuation anew: the same
values, slower.
"""
PAGE = Path(__file__).resolve().parents[1] / "docs" / "architectures.md"


def values(model_type: str) -> dict[str, Any]:
    """Largest differences to the literal computation."""
    rows = id_rows()
    model = fitted(tiny(model_type), rows, steps=4)
    literal = literal_values(model, rows)
    apart = {
        str(size): max(abs(a - b) for a, b in zip(scores_of(model, rows, batch_size=size), literal, strict=True))
        for size in (1, 32)
    }
    return {
        "class": type(model).__name__,
        "parameters": count_parameters(model),
        "shares_keys": whole_cache(model) is not None,
        "difference": apart,
    }


def run(model_type: str, method: str, scope: str, folder: Path) -> str:
    """How an unlearning of three rows ended: "ended", or the error."""
    model = tiny(model_type)
    saved(fitted(model, id_rows(), steps=4), byte_tokenizer(), folder / "model")
    sets = {name: examples(name, lengths) for name, lengths in LENGTHS.items()}
    plan = {
        "training": {"max_steps": 2, "learning_rate": 1e-3},
        "scope": {"kind": scope},
        "measuring": {"metrics": ["ma"]},
    }
    try:
        pal.unlearn(
            str(folder / "model"),
            method=method,
            output=str(folder / "out"),
            plan=plan,
            answers=False,
            refine=False,
            **sets,
        )
    except PalimpsestError as error:
        return f"{type(error).__name__}: {error}"
    return "ended"


def examples(name: str, lengths: tuple[int, ...]) -> list[Example]:
    """Rows of ready-made tokens."""
    rows = id_rows(lengths)
    return [Example(f"{name}{i}", TokenIds(rows[i].tokens)) for i in rows.ids]


def measure(arguments: argparse.Namespace) -> None:
    """Rows that are not in the file yet, one by one."""
    done = {row["type"] for row in read(arguments.json)}
    wanted = arguments.only.split(",") if arguments.only else sorted(ARCHITECTURES)
    for model_type in (name for name in wanted if name not in done):
        row: dict[str, Any] = {"type": model_type, "transformers": transformers.__version__, **values(model_type)}
        row["runs"] = {} if arguments.runs == "none" else dict(runs_of(model_type))
        with arguments.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def runs_of(model_type: str) -> Iterator[tuple[str, str]]:
    for method in METHODS:
        for scope in SCOPES:
            with tempfile.TemporaryDirectory() as folder:
                yield f"{method} {scope}", run(model_type, method, scope, Path(folder))


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The page."""
    exact = sum(is_exact(row) for row in rows)
    ran = [row for row in rows if row["runs"]]
    ended = sum(all(end == "ended" for end in row["runs"].values()) for row in ran)
    yield "# Architectures\n"
    yield SUMMARY.format(len(rows), rows[0]["transformers"], exact, EXACT, ended, len(ran))
    yield "Made by `python benchmarks/architectures.py --json FILE`, then `--table docs/results/architectures.jsonl`.\n"
    yield "| model type | class | keys and values shared | largest difference | runs that ended |"
    yield "|---|---|---|---|---|"
    for row in sorted(rows, key=lambda row: row["type"]):
        runs = row["runs"].values()
        ends = f"{sum(end == 'ended' for end in runs)} of {len(runs)}" if runs else "not run"
        shared = "yes" if row["shares_keys"] else "no"
        yield f"| {row['type']} | {row['class']} | {shared} | {max(row['difference'].values()):.0e} | {ends} |"


def is_exact(row: dict[str, Any]) -> bool:
    return max(row["difference"].values()) <= EXACT


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file of rows; one that is there is gone on with")
    parser.add_argument("--only", default="", help="model types, with commas between them")
    parser.add_argument("--runs", choices=("all", "none"), default="all", help="run the unlearnings, too")
    parser.add_argument("--table", type=Path, help="file of rows to make the page of")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # of the library, about its own classes
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if arguments.table is not None:
        PAGE.write_text("\n".join(table(read(arguments.table))) + "\n", encoding="utf-8")
        return 0
    if arguments.json is None:
        parser.error("give --json FILE or --table FILE")
    measure(arguments)
    rows = read(arguments.json)
    return int(not all(is_exact(row) and set(row["runs"].values()) <= {"ended"} for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
