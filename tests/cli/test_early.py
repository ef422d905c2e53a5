"""What can be refused without a model is refused before torch is imported: its import alone takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest import rules

ROOT = Path(__file__).parents[2]

RUNNER = """
import contextlib, io, json, sys
from palimpsest.cli import main
found = {}
for name, arguments in json.load(sys.stdin).items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    heavy = sorted({"torch", "transformers", "accelerate", "peft", "datasets"} & sys.modules.keys())
    found[name] = [code, err.getvalue() or out.getvalue(), heavy]
json.dump(found, sys.stdout)
"""

SETS = ("--forget", "forget.jsonl", "--retain", "retain.jsonl")
TEXTS = ("unlearn", "--model", "lm", *SETS, "-o", "out")
POOL = ("unlearn", "--model", "lm", "--data", "all.jsonl", "-o", "out")
IMAGES = ("unlearn", "--model", "net", "-o", "out", "--forget", "cats.npz", "--retain", "dogs.npz")
MEASURE = ("measure", "--model", "lm", "--data")
BENCH = ("bench", "clu", "-o", "bench", "--model", "lm", "--data", "all.jsonl")

REFUSED = {
    "unknown command": (("forget",), "unknown command 'forget'; did you mean 'unlearn'?"),
    "unknown flag": ((*TEXTS, "--retian", "x"), "No such option: --retian"),
    "unknown method": ((*TEXTS, "--method", "ico"), "unknown method 'ico'; did you mean 'icu'?"),
    "method of another kind": ((*TEXTS, "--method", "finetune"), "'finetune' does not unlearn; accepted:"),
    "missing set": (("unlearn", "--model", "lm", "--forget", "forget.jsonl", "-o", "out"), "give it with --retain"),
    "needless set": ((*TEXTS, "--method", "npo", "--lr", "1", "--replay", "all.jsonl"), "draws from no replay set"),
    "missing base": ((*TEXTS, "--method", "retrain"), "--base DIR"),
    "unknown section": ((*TEXTS, "--set", "trainin.seed=1"), "did you mean 'training'?"),
    "unknown option": ((*TEXTS, "--set", "icu.alhpa=1"), "did you mean 'alpha'?"),
    "bad option": ((*TEXTS, "--set", "icu.alpha=-1"), "icu.alpha = -1"),
    "retired option": ((*TEXTS, "--set", "icu.repair_steps=4"), "icu.repair_steps is gone"),
    **{
        f"unknown option of rule {name}": ((*TEXTS, "--rule", f"{name}:shaer=1"), f"unknown option of {name} 'shaer'")
        for name in rules.names()
    },
    "short name of an option": ((*TEXTS, "--set", "training.lr=1"), "did you mean 'learning_rate'?"),
    "bad training": ((*TEXTS, "--set", "training.learning_rate=0"), "training.learning_rate = 0"),
    "bad control": ((*TEXTS, "--set", "control.final=9"), "final 9 is above transient 2.5"),
    "bad scope": ((*TEXTS, "--set", "scope.kind=layers"), "needs names"),
    "bad refinement": ((*TEXTS, "--set", "refine.n=0"), "refine.n = 0"),
    "gates by --set": ((*TEXTS, "--set", "gates.ma=1"), "palimpsest options gates"),
    "gate on a set that is not there": ((*TEXTS, "--gate", "forgte es <= 1"), "did you mean 'forget'?"),
    "gate on what is not measured": ((*TEXTS, "--gate", "forget el <= 1"), "did you mean 'el_10'?"),
    "bad option of a metric": ((*TEXTS, "--set", "el.n=0"), "option 'n' is 0"),
    "unknown preset": ((*TEXTS, "--preset", "papers"), "did you mean 'paper'?"),
    "preset without a rate": ((*TEXTS, "--preset", "paper", "--method", "ug_clu"), "has no preset"),
    "plan file that is missing": ((*TEXTS, "--plan", "none.yaml"), "none.yaml: No such file"),
    "plan file that is none": ((*TEXTS, "--plan", "bad.yaml"), "unknown section 'trainin'"),
    "gate with two bounds": ((*TEXTS, "--plan", "gates.yaml"), "exactly one of"),
    "unknown tracker": ((*TEXTS, "--report-to", "nope"), "unknown tracker"),
    "model that is missing": (("unlearn", "--model", "./no", *SETS, "-o", "out"), "no such folder"),
    "model from the Hub": (("unlearn", "--model", "some/model", *SETS, "-o", "out"), "--revision COMMIT"),
    "model without weights": (("unlearn", "--model", "empty", *SETS, "-o", "out"), "no .safetensors weights"),
    "unknown architecture": (("unlearn", "--model", "resnet21@net", *SETS, "-o", "out"), "unknown architecture"),
    "oracle that is missing": ((*TEXTS, "--oracle", "./no"), "no such folder"),
    "oracle that is the model": ((*TEXTS, "--oracle", "lm"), "holds the weights of --model"),
    "oracle that learned it": ((*TEXTS, "--oracle", "other"), "learned 2 of the 2 forget examples"),
    "oracle made of nothing": ((*TEXTS, "--make-oracle"), "--base DIR"),
    "base that is the model": ((*TEXTS, "--make-oracle", "--base", "lm"), "is --model itself"),
    "output that is taken": ((*TEXTS[:-1], "taken"), "is no run of palimpsest"),
    "output of another plan": ((*TEXTS[:-1], "other"), "holds the run of another plan"),
    "output below a file": ((*TEXTS[:-1], "odd.csv/x"), "output odd.csv/x: Not a directory"),
    "output below a device": ((*TEXTS[:-1], "/dev/null/x"), "output /dev/null/x: Not a directory"),
    "output that no folder can be": ((*TEXTS[:-1], "."), "give the name of a new folder"),
    "data that is missing": (("unlearn", "--model", "lm", "--forget", "no.jsonl", *SETS[2:], "-o", "out"), "no.jsonl"),
    "data of an unknown kind": (("unlearn", "--model", "lm", "--forget", "x.xlsx", *SETS[2:], "-o", "out"), "x.xlsx"),
    "data with other columns": (("unlearn", "--model", "lm", "--forget", "odd.csv", *SETS[2:], "-o", "out"), "odd.csv"),
    "data in two sets": (("unlearn", "--model", "lm", "--forget", "all.jsonl", *SETS[2:], "-o", "out"), "share 4 ids"),
    "column given twice": ((*TEXTS, "--column", "prompt=q", "--column", "prompt=r"), "given twice"),
    "column that no file has": ((*TEXTS, "--column", "prompt=question"), "'question'"),
    "pool without a choice": (POOL, "--forget-subject"),
    "subject that no row has": ((*POOL, "--forget-subject", "Anna"), "did you mean 'Ann'"),
    "id that no row has": ((*POOL, "--forget-id", "zz"), "zz"),
    "nothing left to stay": ((*POOL, "--forget-subject", "Ann", "--forget-subject", "Bob"), "nothing stays"),
    "class of texts": ((*POOL, "--forget-class", "cat"), "cat"),
    "texts for a classifier": (("unlearn", "--model", "net", *SETS, "-o", "out"), "is text and model net an image"),
    "images for a language model": (("unlearn", "--model", "lm", *IMAGES[5:], "-o", "out"), "is an image and model lm"),
    "method for texts": ((*IMAGES, "--method", "icu"), "is an image classifier; accepted:"),
    "metric for texts": ((*IMAGES, "--set", "measuring.metrics=[ma]"), "metrics ma cannot be taken of images"),
    "class that the model lacks": (("unlearn", "--model", "two", *IMAGES[3:]), "class 3; accepted: 0 to 1"),
    "measure: data that is missing": ((*MEASURE, "no.jsonl"), "no.jsonl"),
    "measure: unknown metric": ((*MEASURE, "all.jsonl", "--metrics", "maa"), "did you mean 'ma'?"),
    "measure: metric for images": (("measure", "--model", "net", "--data", "cats.npz", "--metrics", "ma"), "accepted:"),
    "measure: model": (("measure", "--model", "./no", "--data", "all.jsonl"), "no such folder"),
    "bench: unknown method": ((*BENCH, "--methods", "er+npoo"), "did you mean 'npo'?"),
    "bench: row that cannot learn": ((*BENCH, "--methods", "npo"), "no method that can learn"),
    "bench: unknown stream": ((*BENCH, "--methods", "er+npo", "--stream", "nope"), "unknown stream 'nope'"),
    "bench: tasks": ((*BENCH, "--methods", "er+npo", "--classes-per-task", "3"), "3 per task cannot be made of 2"),
    "bench: model": ((*BENCH, "--methods", "er+npo", "--model", "./no"), "no such folder"),
    "bench: output that is taken": ((*BENCH[:3], "taken", *BENCH[4:], "--methods", "er+npo"), "than a bench"),
    "bench: output below a file": ((*BENCH[:3], "odd.csv/x", *BENCH[4:], "--methods", "er+npo"), "Not a directory"),
    "demo: output that is taken": (("demo", "-o", "taken"), "was not made by the demo"),
    "report of nothing": (("report", "nowhere"), "nowhere"),
}  # fmt: skip

SHOWN = {
    "version": (("--version",), "palimpsest "),
    "methods": (("methods",), "icu"),
    "one method": (("methods", "icu"), "Use when"),
    "metrics": (("metrics",), "higher is more known"),
    "one metric": (("metrics", "el"), "el.n = 10"),
    "rules": (("rules",), "use when"),
    "options": (("options",), "training.batch_size = 8"),
    "options of a method": (("options", "npo"), "npo.beta = 0.1"),
    "help": (("unlearn", "--help-all"), "--forget-subject"),
    "versions": (("env",), "\ntorch "),
}


def write_models(folder: Path) -> None:
    """Folders that could be models, as far as anything but loading tells."""
    image = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}
    models = {
        "lm": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        "other": {"model_type": "llama"},
        "empty": {"model_type": "llama"},
        "net": image,
        "two": {**image, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}},
    }
    for name, config in models.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        if name != "empty":
            (folder / name / "model.safetensors").write_bytes(b"")


def write_data(folder: Path) -> None:
    import hashlib

    import numpy as np

    rows = [
        {"id": f"p{i}", "subject": "Ann" if i < 2 else "Bob", "prompt": f"Who is {i}?", "completion": f" It is {i}."}
        for i in range(6)
    ]
    for name, some in {"all": rows, "forget": rows[:2], "retain": rows[2:]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    for name, label in (("cats", 3), ("dogs", 0)):
        images = np.full((2, 4, 4, 3), 9 * label, dtype=np.uint8)
        images[1] += 1
        np.savez(folder / f"{name}.npz", x=images, y=np.array([label, label]))
    (folder / "odd.csv").write_text("a,b\n1,2\n")
    (folder / "x.xlsx").write_text("x")
    (folder / "bad.yaml").write_text("trainin: {seed: 1}")
    (folder / "gates.yaml").write_text("gates: [{set: forget, metric: es}]")
    (folder / "taken").mkdir()
    (folder / "taken" / "thesis.txt").write_text("years of work")
    (folder / "other" / "plan.json").write_text('{"kind": "unlearn", "method": "npo", "digest": "0"}')
    (folder / "other" / "result.json").write_text("{}")
    learned = [hashlib.sha256(row["id"].encode()).hexdigest() for row in rows]
    (folder / "other" / "learned.json").write_text(json.dumps({"id_digests": learned}))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """Every command in one process in which nothing of ours was imported before."""
    folder = tmp_path_factory.mktemp("early")
    write_models(folder)
    write_data(folder)
    before = sorted(folder.rglob("*"))
    commands = {name: list(arguments) for name, (arguments, _) in {**REFUSED, **SHOWN}.items()}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(folder.rglob("*")) == before, "something was written"
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line_without_torch(answers, name):
    code, said, heavy = answers[name]
    assert code == 2, said
    assert said.startswith("palimpsest: error: ")
    assert said.count("\n") == 1, said
    assert REFUSED[name][1] in said
    assert not heavy


@pytest.mark.parametrize("name", SHOWN)
def test_it_is_shown_without_torch(answers, name):
    code, said, heavy = answers[name]
    assert (code, heavy) == (0, []), said
    assert SHOWN[name][1] in said
