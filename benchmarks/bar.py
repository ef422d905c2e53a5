"""BAR behind a real HTTP server on this machine: a network learns a task that it was not made for. Prints a table.

    python benchmarks/bar.py                # tumours for a network of digits: mapping alone, q = 5, white box
    python benchmarks/bar.py --task digits --data ../shared/data      # digits for the published CIFAR-10 ResNet-20
    python benchmarks/bar.py --q 5 25       # four to five times as long
    python benchmarks/bar.py --kill 20      # one more run, killed so many times by SIGKILL: queries and digest compared

tumours: 30 numbers in a 6x6 patch in the middle of a 16x16 frame, 398 rows to learn from and 171 held out.
digits: 16x16 pictures in a 32x32 frame, 600 to learn from and 400 held out, one label of CIFAR-10 for each digit.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import palimpsest as pal
from bar_tasks import TASKS
from killing import killed
from palimpsest.engine.serving import ServedModel, description_of, serving, write_description
from palimpsest.models.load import load
from palimpsest.models.parts import parts_of

PRICE = 0.001
"""Of a query, as an example."""


def mapping_alone(folder: Path, data: str) -> float:
    """Accuracy of a version with its program set to zero: what the map does by itself. Asks the model behind it."""
    from palimpsest.engine.inputs import encode_set
    from palimpsest.engine.sections import Encoding
    from palimpsest.models.parts.program import Program
    from palimpsest.models.programming import mapped_accuracy

    loaded = load(folder)
    program = next(part for part in parts_of(loaded.model) if isinstance(part, Program))
    rows = encode_set(pal_examples(data), loaded, Encoding())
    return mapped_accuracy(loaded.model, program, rows)


def pal_examples(data: str) -> Any:
    """The rows of a file."""
    from palimpsest.data.read.examples import read_rows
    from palimpsest.data.read.layout import Layout

    return read_rows(data, Layout(), name="data").examples


def row(name: str, result: Any, queries: int, seconds: float) -> dict[str, Any]:
    """One line of the table."""
    accuracy = {name: scores["accuracy"].value for name, scores in result.scores["after"].items()}
    return {"name": name, "queries": queries, "price": queries * PRICE, "seconds": round(seconds, 1), **accuracy}


def reprogram(box: str, data: tuple[str, str], output: Path, served: ServedModel, **options: Any) -> Any:
    """One run, and how many queries the server counted."""
    served.forget()
    started = time.perf_counter()
    result = pal.learn(box, data[0], holdout=data[1], method="bar", output=output, plan={"options": options})
    return result, served.queries, time.perf_counter() - started


def killed_run(box: str, data: tuple[str, str], place: Path, served: ServedModel, times: int) -> dict[str, Any]:
    """The run with q = 5 once more in processes of its own, killed at random moments and gone on with."""
    served.forget()
    output = place / "killed"
    given = {"holdout": data[1], "method": "bar", "output": str(output), "plan": {"options": {"q": 5}}}
    code = f"import palimpsest as pal; pal.learn({box!r}, {data[0]!r}, **{given!r})"
    done = killed(code, output, times, (10_000, 300_000))
    program = (output / "parts" / "0000-program" / "part.safetensors").read_bytes()
    whole = (place / "q5" / "parts" / "0000-program" / "part.safetensors").read_bytes()
    return {"killed": done, "queries": served.queries, "same bits": program == whole}


def table(rows: list[dict[str, Any]]) -> str:
    """As in docs/bar.md."""
    lines = ["| run | accuracy, learned | held out | queries | price at 0.001 | seconds |", "|---|---|---|---|---|---|"]
    for one in rows:
        said = "–" if not one["queries"] else f"{one['queries']} | {one['price']:.2f}"
        said = "– | –" if said == "–" else said
        lines.append(f"| {one['name']} | {one['learn']:.3f} | {one['holdout']:.3f} | {said} | {one['seconds']} |")
    return "\n".join(lines)


def main() -> None:
    """Run all of it and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--q", type=int, nargs="+", default=[5])
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--task", choices=TASKS, default="tumours")
    parser.add_argument("--data", type=Path, default=Path(), help="where cifar10-resnets is, for the task of digits")
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    with TemporaryDirectory() as name:
        place = Path(name)
        task = TASKS[asked.task]
        model, said = task.black_box(place / "served", asked.data)
        print(said)
        data, framed = task.files(place, framed=False), task.files(place, framed=True)
        served = ServedModel(load(model))
        rows, found = [], {}
        with serving(served) as port:
            box = str(place / "blackbox.json")
            write_description(box, description_of(served, port) | {"price_per_query": PRICE, "budget": 250_000})
            for q in asked.q:
                result, queries, seconds = reprogram(box, data, place / f"q{q}", served, q=q)
                rows.append(row(f"BAR, q = {q}", result, queries, seconds))
            made = place / f"q{asked.q[0]}"
            alone = {"learn": mapping_alone(made, data[0]), "holdout": mapping_alone(made, data[1])}
            rows.insert(0, {"name": "mapping alone", "queries": len(pal_examples(data[0])), "seconds": 0.0, **alone})
            rows[0]["price"] = rows[0]["queries"] * PRICE
            if asked.kill:
                found = killed_run(box, data, place, served, asked.kill)
        result, _, seconds = reprogram(model, framed, place / "white", served, estimator="exact")
        rows.append(row("white box, exact gradient", result, 0, seconds))
    print(table(rows))
    if found:
        print(found)
    if asked.json is not None:
        asked.json.write_text(json.dumps({"rows": rows, "killed": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
