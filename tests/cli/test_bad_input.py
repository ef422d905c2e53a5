"""Everything a user can get wrong: exit code 2, one clear line on stderr, nothing written."""

from __future__ import annotations

import json
import shutil

import pytest

from palimpsest.cli import main

GOOD_ROW = {"id": "x1", "prompt": "Where?", "completion": " Here."}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def broken_model(clinic, tmp_path, break_it):
    folder = tmp_path / "broken"
    shutil.copytree(clinic / "model", folder)
    break_it(folder)
    return folder


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def to_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BAD_FILES = {
    "empty file": ("", "empty"),
    "not JSON": ("{oops\n", "line 1"),
    "not an object": ("[1, 2]\n", "line 1"),
    "unknown column": ('{"id": "a", "promt": "x", "completion": "y"}\n', "no column 'prompt'; did you mean 'promt'"),
    "missing completion": ('{"id": "a", "prompt": "x"}\n', "completion"),
    "empty completion": ('{"id": "a", "prompt": "x", "completion": ""}\n', "completion"),
    "blank text": ('{"id": "a", "text": "   "}\n', "text"),
    "number as text": ('{"id": "a", "text": 5}\n', "text"),
    "duplicate id": (f"{json.dumps(GOOD_ROW)}\n" * 2, "line 2.*x1.*line 1"),
    "duplicate content": ('{"text": "a b"}\n{"text": "a b"}\n', "same content as line 1"),
    "blank line inside": ('{"text": "a b"}\n\n{"text": "c d"}\n', "line 2"),
    "not UTF-8": (b'{"text": "\xff\xfe"}\n', "UTF-8"),
    "NaN in JSON": ('{"id": NaN, "text": "a"}\n', "NaN"),
    "chat without assistant": ('{"messages": [{"role": "user", "content": "hi"}]}\n', "assistant"),
    "unknown role": ('{"messages": [{"role": "wizard", "content": "hi"}]}\n', "no turn with role 'assistant'"),
}


@pytest.fixture
def refused(clinic, tmp_path, capsys):
    """Run the command line, expect a refusal, return its line."""

    def run(*arguments) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main([str(a) for a in arguments]) == 2
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("palimpsest: error: ")]
        assert len(lines) == 1
        assert err.splitlines()[-1] == lines[0]
        assert out == ""
        assert "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0]

    return run


@pytest.fixture
def unlearn(refused, clinic, tmp_path):
    """An unlearn command in which one thing is replaced."""

    def run(*more, **replaced):
        given = {"model": clinic / "model", "forget": clinic / "forget.jsonl", "retain": clinic / "retain.jsonl"}
        options = [
            x for name, value in {**given, **replaced}.items() if value is not None for x in (f"--{name}", value)
        ]
        return refused("unlearn", *options, "--output", tmp_path / "out", *more)

    return run


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_forget_file(unlearn, tmp_path, name):
    content, words = BAD_FILES[name]
    message = unlearn(forget=write(tmp_path / "bad.jsonl", content))
    assert "bad.jsonl" in message
    import re

    assert re.search(words, message), message


def test_a_missing_file(unlearn, tmp_path):
    assert "nowhere.jsonl" in unlearn(forget=tmp_path / "nowhere.jsonl")


def test_an_unknown_ending(unlearn, tmp_path):
    message = unlearn(forget=write(tmp_path / "rows.xlsx", "x"))
    assert "jsonl" in message.lower()


def test_a_csv_without_a_header_we_know(unlearn, tmp_path):
    assert "header" in unlearn(forget=write(tmp_path / "bad.csv", "a,b\n1,2\n"))


def test_a_parquet_file_that_is_none(unlearn, tmp_path):
    assert "bad.parquet" in unlearn(forget=write(tmp_path / "bad.parquet", "PAR?"))


def test_forget_and_retain_share_an_id(unlearn, clinic):
    assert "p0" in unlearn(retain=clinic / "learn.jsonl")


def test_forget_and_retain_share_content_under_two_ids(unlearn, clinic, tmp_path):
    row = json.loads((clinic / "forget.jsonl").read_text().splitlines()[0])
    message = unlearn(retain=write(tmp_path / "copy.jsonl", json.dumps({**row, "id": "other"}) + "\n"))
    assert "p0" in message
    assert "other" in message


def test_a_set_the_method_needs_is_missing(unlearn):
    assert "needs the retain set; give it with --retain FILE" in unlearn(retain=None)


def test_retrain_without_a_base(unlearn):
    assert "--base DIR" in unlearn("--method", "retrain")


def test_replay_that_no_term_would_use(unlearn, clinic):
    assert "draws from no replay set" in unlearn("--method", "npo", "--lr", "1e-4", replay=clinic / "general.jsonl")


def test_an_unknown_method(unlearn):
    assert "did you mean 'icu'?" in unlearn("--method", "ico")


def test_a_learning_method_asked_to_unlearn(unlearn):
    assert "'finetune' does not unlearn; accepted:" in unlearn("--method", "finetune")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("icu.alhpa=1", "did you mean 'alpha'"),
        ("icu.alpha=-1", "icu.alpha = -1"),
        ("icu.alpha=many", "icu.alpha = 'many'"),
        ("training.learning_rat=1", "did you mean 'learning_rate'"),
        ("training.lr=1", "unknown option of training 'lr'; did you mean 'learning_rate'?"),
        ("training.epochs=1", "did you mean 'num_train_epochs'?"),
        ("training.per_device_train_batch_size=1", "did you mean 'batch_size'?"),
        ("scope.r=4", "did you mean 'rank'?"),
        ("training.lora_r=4", "did you mean 'scope.rank'?"),
        ("trainer.max_steps=4", "unknown section 'trainer'; did you mean 'training'?"),
        ("args.lr=4", "unknown section 'args'; did you mean 'training.learning_rate'?"),
        (
            "gates.retain.es=0.8",
            "a list in the file of --plan, e.g. gates: [{set: retain",
        ),
        ("training.learning_rate=0", "training.learning_rate = 0"),
        ("scope.kind=most", "scope.kind = 'most'"),
        ("scope.kind=layers", "needs names"),
        ("scope.names=[a]", "takes no names"),
        ("refine.n=0", "refine.n = 0"),
        ("refine.nn=3", "did you mean 'n'"),
        ("pairing.k=0", "pairing.k = 0"),
        ("el.nn=10", "did you mean 'n'"),
        ("elbow.n=10", "unknown section 'elbow'"),
        ("npo.beta=1", "the run's method is 'icu'"),
        ("alpha=1", "accepted: a.b=value"),
        ("icu.alpha=[", "no YAML"),
        ("measuring.metrics=[mma]", "did you mean 'ma'"),
        ("measuring.metrics=ma", "measuring.metrics = 'ma': Input should be a list"),
        ("measuring.options=5", "measuring.options = 5"),
        ("training.betas=[0.9, 1.5]", "training.betas.1 = 1.5"),
        ("training.learning_rate=.inf", "training.learning_rate = inf: Input should be a finite number"),
        ("training.learning_rate=1e38", "training.learning_rate = '1e38'"),
        ("training.num_train_epochs=.nan", "training.num_train_epochs = nan"),
        ("training.batch_size=1000000000", "training.batch_size = 1000000000"),
        ("training.side_batch_size={forgett: 3}", "unknown set 'forgett'; did you mean 'forget'?"),
        ("encoding.augment={padding: 1000000000}", "encoding.augment.padding = 1000000000"),
        ("controls.forget.temperature=0", "controls.forget.temperature = 0: Input should be greater than 0"),
        ("controls.forget.lowest=2", "controls.forget.lowest = 2: Input should be less than or equal to 1"),
        ("controls.forget.cap=-3", "controls.forget.cap = -3: Input should be greater than 0"),
        ("controls.forget.caps=3", "unknown option of controls.forget 'caps'; did you mean 'cap'?"),
        ("controls.forget=3", "controls.forget is 3; accepted: a mapping of temperature, lowest, cap"),
        ("controls.holdout.cap=3", "controls.holdout: this run draws from no set of that name; accepted: forget"),
        ("control.forget.cap=3", "unknown option of control 'forget.cap'"),
        ("icu.alpha=.inf", "icu.alpha = inf: Input should be a finite number"),
    ],
)
def test_a_bad_assignment(unlearn, assignment, words):
    assert words in unlearn("--set", assignment)


def test_a_gate_that_cannot_be_read(unlearn):
    assert "gate 'retain es above 0.9' cannot be read; accepted: " in unlearn("--gate", "retain es above 0.9")


def test_a_regular_expression_that_matches_nothing(unlearn):
    assert "matches no parameter" in unlearn("--set", "scope.kind=layers", "--set", "scope.names=[nothing]")


def test_a_regular_expression_that_is_none(unlearn):
    assert "not a regular expression" in unlearn("--set", "scope.kind=layers", "--set", "scope.names=['(']")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("trainin: {seed: 1}", "did you mean 'training'"),
        ("trainer: {seed: 1}", "did you mean 'training'"),
        ("- 1", "holds a list"),
        ("training: 5", "accepted: a mapping"),
        ("a: [", "neither YAML nor JSON"),
        ("[" * 5000, "neither YAML nor JSON"),
        ("gates: [{set: forget, metric: es}]", "exactly one of"),
        ("gates: [{set: forget, metrik: es, at_most: 1}]", "metrik"),
    ],
)
def test_a_bad_plan_file(unlearn, tmp_path, content, words):
    assert words in unlearn("--plan", write(tmp_path / "plan.yaml", content))


def test_a_plan_file_that_is_missing(unlearn, tmp_path):
    assert "none.yaml" in unlearn("--plan", tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "no model_type"),
        (lambda f: (f / "model.safetensors").unlink(), "no .safetensors weights"),
        (to_pickle, "never unpickled"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 40), "cannot be loaded"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer beside the weights"),
        (lambda f: edit_config(f, model_type="no_such_model"), "cannot be loaded"),
        (lambda f: edit_config(f, num_hidden_layers=6), "missing"),
        (lambda f: edit_config(f, hidden_size=40), "misshapen|cannot be loaded"),
    ],
    ids=["gone", "no config", "config not JSON", "config a list", "no weights", "pickle", "damaged weights",
         "no tokenizer", "unknown type", "missing layers", "other width"],
)  # fmt: skip
def test_a_broken_model_folder(unlearn, clinic, tmp_path, break_it, words):
    import re

    message = unlearn(model=broken_model(clinic, tmp_path, break_it))
    assert re.search(words, message), message


def test_a_hub_name_without_a_revision(unlearn):
    assert "https://huggingface.co/some/model/commits/main; a local folder needs none" in unlearn(model="some/model")


@pytest.mark.parametrize("name", ["", ".", "/", "x" * 300])
def test_an_output_that_no_folder_can_be(refused, clinic, name):
    sets = [x for kind in ("forget", "retain") for x in (f"--{kind}", clinic / f"{kind}.jsonl")]
    assert "give the name of a new folder" in refused("unlearn", "--model", clinic / "model", *sets, "-o", name)


@pytest.mark.parametrize(
    ("name", "words"),
    [("nope", "unknown tracker to report to 'nope'; accepted: tensorboard, trackio, wandb"), ("wandb", "pip install")],
)
def test_a_tracker_that_is_not_there(unlearn, monkeypatch, name, words):
    monkeypatch.setattr("palimpsest.verbs.arguments.find_spec", lambda package: None)
    assert words in unlearn("--report-to", name)


def test_an_output_that_is_something_else(refused, clinic, tmp_path):
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "thesis.txt", "years of work")
    sets = [x for name in ("forget", "retain") for x in (f"--{name}", clinic / f"{name}.jsonl")]
    message = refused("unlearn", "--model", clinic / "model", *sets, "--output", tmp_path / "mine")
    assert "is no run of palimpsest" in message


def test_a_text_longer_than_the_model(unlearn, tmp_path):
    row = {"id": "long", "text": "word " * 3000}
    message = unlearn(forget=write(tmp_path / "long.jsonl", json.dumps(row) + "\n"))
    assert "'long'" in message
    assert "truncate" in message


def test_a_holdout_that_is_remembered_as_well(unlearn, clinic, tmp_path):
    """The same texts under other words would make every example pass at once."""
    rows = [json.loads(line) for line in (clinic / "forget.jsonl").read_text().splitlines()]
    twins = [
        {"id": f"t{i}", "prompt": f"Well: {r['prompt']}", "completion": r["completion"]} for i, r in enumerate(rows)
    ]
    message = unlearn(
        "--set", "refine.el=0.5", holdout=write(tmp_path / "twins.jsonl", "\n".join(map(json.dumps, twins)) + "\n")
    )
    assert "is not below the forget set's" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--metrics", "maa"), "did you mean 'ma'"),
        (("--metrics", ","), "metrics are none; accepted: at least one"),
        (("--metrics", "ma,ma"), "metrics are ma, ma; accepted: at least one, each once"),
        (("--metrics", "ma", "--set", "el.n=3"), "unknown metric of this call 'el'"),
        (("--set", "el.n=0"), "option 'n' is 0"),
        (("--set", "el.first_prefix=zero"), "option 'first_prefix' is 'zero'"),
        (("--batch-size", "0"), "--batch-size"),
        (("--no-such-option",), "No such option"),
    ],
)
def test_a_bad_measure_call(refused, clinic, arguments, words):
    message = refused("measure", "--model", clinic / "model", "--data", clinic / "forget.jsonl", *arguments)
    assert words in message


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "a", "input_ids": [1, 2, 99999]}, "99999"),
        ({"id": "a", "input_ids": [1, -2, 3]}, "-2"),
        ({"id": "a", "input_ids": [7]}, "label|at least"),
        ({"id": "a", "input_ids": "1 2 3"}, "input_ids"),
        ({"id": "a", "text": "words"}, "input_ids"),
    ],
)
def test_bad_token_ids(refused, clinic, tmp_path, row, words):
    import re

    file = write(tmp_path / "ids.jsonl", json.dumps(row) + "\n")
    message = refused("measure", "--model", clinic / "model", "--data", file, "--token-ids")
    assert re.search(words, message), message


def test_a_report_of_something_else(refused, tmp_path):
    assert "result.json" in refused("report", tmp_path / "nowhere")
    (tmp_path / "result.json").write_text('{"schema_id": "other"}')
    assert "palimpsest.run/1" in refused("report", tmp_path)
