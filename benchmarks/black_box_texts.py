"""A language model that can only be asked: soft prompts and unlearning behind a real HTTP server on this machine.

    python benchmarks/black_box_texts.py --data ../shared/data --output DIR              # all tables
    python benchmarks/black_box_texts.py --data ../shared/data --output DIR --only tofu  # one of tofu, people, unlearn
    python benchmarks/black_box_texts.py --data ../shared/data --output DIR --only kill --kill 20

tofu: ``llama-stories260k`` as it is, served, is taught the rows of two authors of TOFU, and others are held out.
people: the same model, which learned rows of four people of knowundo-privacy by heart, is taught three other people.
unlearn: behind the latter the private rows of the four are unlearned; their public rows are to stay.
kill: a short run of ``tofu``, undisturbed and killed so many times by SIGKILL: queries and digest compared.

Of an answer 16 words. Taught: 32 rows, 32 or 16 held out: without a prompt, behind the prompt that a run starts with,
zeroth order with q = 5, exact gradient on the same weights. The constants of both methods were chosen on the 31st to
the 37th person by name; the first seven, and TOFU, are shown. One seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import palimpsest as pal
from killing import killed
from palimpsest.engine.serving import ServedModel, description_of, serving, write_description
from palimpsest.models.load import load

PRICE = 0.001
"""Of a query, as an example."""
WORDS, LEARNED_FROM, STEPS = 16, 32, {"learn": 60, "unlearn": 30}
TEACHING = {"learning_rate": 3e-3, "max_steps": 260, "num_train_epochs": 1000, "batch_size": 8}
MEASURED = {"measuring": {"metrics": ["es", "nll"]}}
BLACK, WHITE = {"q": 5}, {"estimator": "exact"}
RUNS = {
    "tofu": [("learn", "prompt_tuning", BLACK), ("learn", "prompt_tuning", WHITE)],
    "people": [("learn", "prompt_tuning", BLACK), ("learn", "prompt_tuning", WHITE)],
    "unlearn": [("unlearn", "spul", BLACK), ("unlearn", "guard", {}), ("unlearn", "spul", WHITE)],
}
Files = Mapping[str, str]


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write(place: Path, sets: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Question, and the first words of its answer; name -> file."""
    files = {}
    for name, rows in sets.items():
        lines = [
            {
                "id": f"{name[0]}{n}",
                "prompt": row["question"] + " ",
                "completion": " ".join(row["answer"].split()[:WORDS]),
            }
            for n, row in enumerate(rows)
        ]
        files[name] = str(place / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return files


def people_sets(data: Path, place: Path) -> Files:
    """What is known, forgotten, kept, taught and held out."""
    rows = read(data / "knowundo-privacy" / "qa.jsonl")
    people = sorted({row["person"] for row in rows})
    known = [row for row in rows if row["person"] in people[:4]]
    private = [row for row in known if row["kind"] == "unlearn"][:12]
    public = [row for row in known if row["kind"] == "retain"][:16]
    task = [row for row in rows if row["person"] in people[4:7]][: LEARNED_FROM + 16]
    sets = {"forget": private, "retain": public, "learn": task[:LEARNED_FROM], "holdout": task[LEARNED_FROM:]}
    files = write(place, sets)
    both = [Path(files[name]).read_text(encoding="utf-8") for name in ("forget", "retain")]
    (place / "known.jsonl").write_text("".join(both), encoding="utf-8")
    return files | {"known": str(place / "known.jsonl")}


def tofu_sets(data: Path, place: Path) -> Files:
    """Rows of the first four authors: two are taught, two held out."""
    rows = read(data / "tofu" / "qa.jsonl")
    return write(place, {"learn": rows[:LEARNED_FROM], "holdout": rows[40 : 40 + LEARNED_FROM]})


def at_start(model: str, files: Files) -> dict[str, float]:
    """Nats per token of both sets behind the prompt that a run starts with, as a run measures them."""
    from palimpsest.data.read.examples import read_rows
    from palimpsest.data.read.layout import Layout
    from palimpsest.engine.inputs import encode_set
    from palimpsest.engine.sections import Encoding
    from palimpsest.methods import configure
    from palimpsest.methods.prompt_tuning import PromptTuning
    from palimpsest.metrics import build
    from palimpsest.metrics.evaluate import evaluate
    from palimpsest.models.parts import attach

    loaded = load(model)
    sets = {
        name: encode_set(read_rows(files[name], Layout(), name=name).examples, loaded, Encoding())
        for name in ("learn", "holdout")
    }
    method = PromptTuning(configure("prompt_tuning", {}))
    (part,) = method.parts(loaded.model, sets, 0)
    part.is_new = True
    attach(loaded.model, [part])
    method.prepare(loaded.model, sets)
    found = {name: evaluate(loaded.model, rows, [build("nll", {})]) for name, rows in sets.items()}
    return {name: round(float(said.scores["nll"].value or 0.0), 3) for name, said in found.items()}


def done(result: Any, queries: int, started: float, name: str) -> dict[str, Any]:
    """A row of a table, said at once."""
    scores = {
        f"{part} {metric} {column}": round(result.scores[column][part][metric].value, 3)
        for column in ("before", "after")
        for part in result.scores[column]
        for metric in ("nll", "es")
    }
    row = {"name": name, "queries": queries, "price": round(queries * PRICE, 2), **scores, "ended": result.stopped}
    print(json.dumps(row | {"seconds": round(time.perf_counter() - started)}), flush=True)
    return row


def run_of(verb: str, files: Files, source: str, given: Mapping[str, Any]) -> Any:
    """One run."""
    if verb == "learn":
        return pal.learn(source, files["learn"], holdout=files["holdout"], **given)
    return pal.unlearn(source, files["forget"], retain=files["retain"], **given)


def rows_of(table: str, model: str, files: Files, place: Path) -> list[dict[str, Any]]:
    """All runs of a table, behind a server where they only ask."""
    rows, served = [], ServedModel(load(model))
    with serving(served) as port:
        box = str(place / "blackbox.json")
        write_description(box, description_of(served, port) | {"price_per_query": PRICE, "budget": 100_000})
        for verb, method, options in RUNS[table]:
            served.forget()
            name, started = " ".join([table, method, *map(str, options.values())]), time.perf_counter()
            training = {} if method == "guard" else {"training": {"max_steps": STEPS[verb], "num_train_epochs": 1000}}
            plan = {"options": options, **training, **MEASURED}
            output = place / name.replace(" ", "-")
            given = {"output": output, "method": method, "plan": plan, "threads": 1, "answers": False}
            source = model if options is WHITE else box
            try:
                rows.append(done(run_of(verb, files, source, given), served.queries, started, name))
            except pal.FrozenError as error:
                rows.append({"name": name, "queries": served.queries, "ended": str(error)})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def kill_rows(model: str, files: Files, place: Path, times: int) -> dict[str, Any]:
    """A short run as it is, and the same one killed again and again."""
    found: dict[str, Any] = {}
    served = ServedModel(load(model))
    with serving(served) as port:
        box = str(place / "blackbox.json")
        write_description(box, description_of(served, port) | {"price_per_query": PRICE, "budget": 100_000})
        for name, kills in (("undisturbed", 0), ("killed", times)):
            served.forget()
            output = place / name
            training = {"max_steps": 12, "num_train_epochs": 1000, "batch_size": 4, "checkpoint_steps": 3}
            plan = {"options": BLACK, "training": training, **MEASURED}
            given = {"output": str(output), "method": "prompt_tuning", "plan": plan, "threads": 1, "answers": False}
            code = f"import palimpsest as pal; pal.learn({box!r}, {files['learn']!r}, **{given!r})"
            killed_times = killed(code, output, kills, (2_000, 60_000))
            (part,) = output.glob("parts/*/part.safetensors")
            found[name] = {"kills": killed_times, "queries": served.queries, "part": part.read_bytes()}
    same = found["undisturbed"].pop("part") == found["killed"].pop("part")
    print(json.dumps(found | {"same bits": same}), flush=True)
    return {"name": "kill", **found, "same bits": same}


def main() -> None:
    """Run all of it, or one table, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="llama-stories260k, knowundo-privacy and tofu")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", choices=[*RUNS, "kill"], nargs="+", default=list(RUNS))
    parser.add_argument("--kill", type=int, default=20)
    asked = parser.parse_args()
    place: Path = asked.output
    plain, taught, rows = str(asked.data / "llama-stories260k"), place / "model", []
    for table in asked.only:
        folder = place / table
        folder.mkdir(parents=True, exist_ok=True)
        if table in ("tofu", "kill"):
            model, files = plain, tofu_sets(asked.data, folder)
        else:
            model, files = str(taught), people_sets(asked.data, folder)
            if not taught.exists():
                plan = {"training": TEACHING, **MEASURED}
                pal.learn(plain, files["known"], output=model, threads=1, answers=False, plan=plan)
        if table == "kill":
            rows.append(kill_rows(model, files, folder, asked.kill))
            continue
        if table != "unlearn":
            rows.append({"name": f"{table} at the start", "nll": at_start(model, files)})
            print(json.dumps(rows[-1]), flush=True)
        rows += rows_of(table, model, files, folder)
    (place / "rows.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
