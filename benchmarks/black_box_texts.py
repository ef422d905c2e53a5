"""A language model that can only be asked: soft prompts and unlearning behind a real HTTP server on this machine.

    python benchmarks/black_box_texts.py --data ../shared/data --output DIR

``llama-stories260k`` learns rows of four people of knowundo-privacy, 16 words of each answer, and is served. Learned
behind it: the rows of three other people, 32 of them, 16 held out, by a soft prompt of 4 positions (no prompt, zeroth
order with q = 5, exact gradient on the same weights). Unlearned behind it: the private rows of the four, by a soft
prompt, by a guard in front, and by a prompt with the exact gradient; their public rows are to stay.

The constants of both methods were chosen on the 31st to the 37th person by name; the first seven are shown. One seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import palimpsest as pal
from palimpsest.engine.serving import ServedModel, description_of, serving, write_description
from palimpsest.models.load import load

PRICE = 0.001
"""Of a query, as an example."""
WORDS, LEARNED_FROM, STEPS = 16, 32, {"learn": 60, "unlearn": 30}
TEACHING = {"learning_rate": 3e-3, "max_steps": 260, "num_train_epochs": 1000, "batch_size": 8}


def write(path: Path, rows: list[dict[str, Any]], tag: str) -> str:
    """Question, and the first words of its answer."""
    lines = [
        {"id": f"{tag}{n}", "prompt": row["question"] + " ", "completion": " ".join(row["answer"].split()[:WORDS])}
        for n, row in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def write_sets(data: Path, place: Path) -> Mapping[str, str]:
    """What is known, forgotten, kept, taught and held out."""
    lines = (data / "knowundo-privacy" / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    people = sorted({row["person"] for row in rows})
    known = [row for row in rows if row["person"] in people[:4]]
    private = [row for row in known if row["kind"] == "unlearn"][:12]
    public = [row for row in known if row["kind"] == "retain"][:16]
    task = [row for row in rows if row["person"] in people[4:7]][: LEARNED_FROM + 16]
    sets = {"forget": private, "retain": public, "learn": task[:LEARNED_FROM], "holdout": task[LEARNED_FROM:]}
    files = {name: write(place / f"{name}.jsonl", found, name[0]) for name, found in sets.items()}
    both = [Path(files[name]).read_text(encoding="utf-8") for name in ("forget", "retain")]
    (place / "known.jsonl").write_text("".join(both), encoding="utf-8")
    return files | {"known": str(place / "known.jsonl")}


def done(result: Any, queries: int, started: float, name: str) -> dict[str, Any]:
    """A row of a table, said at once."""
    scores = {
        f"{part} {metric} {column}": round(result.scores[column][part][metric].value, 3)
        for column in ("before", "after")
        for part in result.scores[column]
        for metric in ("nll", "es")
    }
    row = {"name": name, "queries": queries, "price": round(queries * PRICE, 2), **scores}
    print(json.dumps(row | {"seconds": round(time.perf_counter() - started)}), flush=True)
    return row


def main() -> None:
    """Run all of it and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where llama-stories260k and knowundo-privacy are")
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    place: Path = asked.output
    place.mkdir(parents=True, exist_ok=True)
    files, start, model = write_sets(asked.data, place), str(asked.data / "llama-stories260k"), str(place / "model")
    measured = {"measuring": {"metrics": ["es", "nll"]}}
    pal.learn(start, files["known"], output=model, threads=1, answers=False, plan={"training": TEACHING, **measured})
    served = ServedModel(load(model))
    rows = []
    with serving(served) as port:
        box = str(place / "blackbox.json")
        write_description(box, description_of(served, port) | {"price_per_query": PRICE, "budget": 100_000})
        runs = [
            ("learn", "prompt_tuning", {"q": 5}, box),
            ("learn", "prompt_tuning", {"estimator": "exact"}, model),
            ("unlearn", "spul", {"q": 5}, box),
            ("unlearn", "guard", {}, box),
            ("unlearn", "spul", {"estimator": "exact"}, model),
        ]
        for verb, method, options, source in runs:
            served.forget()
            name, started = " ".join([method, *map(str, options.values())]), time.perf_counter()
            training = {} if method == "guard" else {"training": {"max_steps": STEPS[verb], "num_train_epochs": 1000}}
            given = {"output": place / name.replace(" ", "-"), "method": method, "threads": 1, "answers": False}
            plan = {"options": options, **training, **measured}
            if verb == "learn":
                result = pal.learn(source, files["learn"], holdout=files["holdout"], plan=plan, **given)
            else:
                result = pal.unlearn(source, files["forget"], retain=files["retain"], plan=plan, **given)
            rows.append(done(result, served.queries, started, name))
    (place / "rows.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
