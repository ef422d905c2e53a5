"""``palimpsest bench clu`` from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from palimpsest.cli import main


@pytest.fixture
def arguments(values, tmp_path) -> list[str]:
    config = {name: values[name] for name in ("learning", "unlearning", "stream")}
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(config))
    given = {name: values[name] for name in ("model", "data", "test", "buffer")}
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["bench", "clu", *options, "--config", str(tmp_path / "bench.yaml"), "--output", str(tmp_path / "out")]


@pytest.mark.slow
def test_it_runs_and_prints_a_result(arguments, tmp_path, capsys):
    more = ["--methods", "er+random_label", "--set", "learning.training.max_steps=1", "--set", "limit=2", "--json"]
    assert main([*arguments, *more]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "results.json").read_text())
    assert printed["bench"]["learning"]["training"]["max_steps"] == 1
    assert max(score["n"] for score in printed["rows"]["oracle"]["0"][2]["reading"]["sets"].values()) == 2
    assert main([*arguments, *more[:-1]]) == 0
    assert "distance to the oracle" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "the bench has no rows; give --methods"),
        (["--methods", "er"], "has no method that can unlearn"),
        (["--methods", "er+npo", "--seeds", "0,x"], "--seeds '0,x'; accepted: whole numbers"),
        (["--methods", "er+npo", "--buffer", "lots"], "a replay buffer of lots examples; accepted: 1 or more"),
        (["--methods", "er+npo", "--buffer", "0"], "a replay buffer of 0 examples"),
        (["--methods", "er+npo", "--stream", "cross"], "unknown stream 'cross'"),
        (["--methods", "er+npo", "--classes-per-task", "3"], "3 per task cannot be made of 4"),
        (["--methods", "er+npo", "--set", "buffer.size=3"], "--set buffer.size: 'buffer' is '3'; accepted: a place"),
        (["--methods", "er+npo", "--model", "/no/such/folder"], "no such folder"),
        (["--methods", "er+npo", "--data", "/no/such/file.jsonl"], "/no/such/file.jsonl"),
    ],
)
def test_wrong_usage_ends_with_one_line_and_code_2(arguments, more, message, tmp_path, capsys):
    assert main([*arguments, *more]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--methods", "er+nop"], "unknown method of row 'er+nop' 'nop'; did you mean 'npo'?"),
        (["--methods", "er+npo", "--stream", "randon"], "unknown stream 'randon'; did you mean 'random'?"),
        (["--methods", "er+npo", "--classes-per-task", "3"], "3 per task cannot be made of 4"),
        (["--methods", "er+npo", "--data", "no.jsonl"], "no.jsonl"),
    ],
)
def test_what_names_and_data_decide_is_refused_before_torch_is_there(values, more, message, tmp_path):
    given = [word for name in ("model", "data") for word in (f"--{name}", str(values[name]))]
    words = ["bench", "clu", *given, "--output", str(tmp_path / "out"), *more]
    code = f"import sys; from palimpsest.cli import main; print(main({words!r}), 'torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert message in done.stderr
    assert done.stdout == "2 False\n"


def test_help_fits_a_screen(capsys):
    assert main(["bench", "clu", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80


def test_streams_are_listed_with_their_options(capsys):
    assert main(["bench", "streams"]) == 0
    out = capsys.readouterr().out
    assert "\nincremental     nothing is forgotten\n" in out
    assert "stream.share = 0.1   (number above 0 and below 1)" in out
    assert "stream.classes_per_task = 2" in out
    assert max(map(len, out.splitlines())) <= 100
    assert main(["bench", "streams", "random", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["random"]["options"]) == ["share"]


def test_a_stream_that_there_is_not_is_guessed(capsys):
    assert main(["bench", "streams", "rando"]) == 2
    assert "unknown scenario 'rando'; did you mean 'random'?" in capsys.readouterr().err
