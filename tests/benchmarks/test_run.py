"""Runs are given files and no oracle; a row holds what was measured; the command goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.shallow import shallow_model

from out_of_the_box import command
from out_of_the_box.readings import distance, nats
from out_of_the_box.recipes import fixed
from out_of_the_box.run import CONTROLS, LEFT_OUT, Cell, Runs, given, level_of, plan_of, size_of_edit
from out_of_the_box.text_worlds import Making
from out_of_the_box.texts import write_lines
from out_of_the_box.worlds import Request, World, WorldError, taught, teach
from palimpsest.records import Direction, Score
from palimpsest.report.schema import RunResult

FILES = {name: Path(f"{name}.jsonl") for name in ("forget", "retain", "holdout", "general", "replay")}
REQUEST = Request("one", FILES, Path("oracle"))
CELL = Cell("w", "one", "icu")
QUICKLY = {"learning_rate": 3e-3, "max_steps": 40, "num_train_epochs": 1000, "batch_size": 8}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Twelve facts that a tiny model has learned, two of them to be forgotten."""
    folder = tmp_path_factory.mktemp("world")
    rows = [
        {
            "id": f"r{n}",
            "subject": "s",
            "prompt": f"Where is number {n}?",
            "completion": f" It is at {7 * n + 3} Hill Road.",
        }
        for n in range(12)
    ]
    other = [{"id": f"o{n}", "text": f"Some other words, and {n} of them."} for n in range(12)]
    base = shallow_model(folder / "base", [row["completion"] for row in rows], seed=0)
    for name, chosen in (("learn", rows), ("holdout", other[:2]), ("general", other[2:6]), ("replay", other[6:])):
        write_lines(folder / "data" / f"{name}.jsonl", chosen)
    making = Making(folder, base, fixed(QUICKLY, {"metrics": ["es"]}))
    taught(folder / "learned", base, {"learn": folder / "data" / "learn.jsonl"}, making.recipe)
    request = making.request("tenth", rows, ["r0", "r1"])
    return World(
        name="tiny",
        model="tiny",
        data="none",
        tune=False,
        folder=folder,
        base=str(base),
        learned=folder / "learned",
        requests={"tenth": request},
        relearning=fixed({"learning_rate": 1e-3, "max_steps": 2, "batch_size": 4}, {"metrics": ["es", "ma"]}),
        making=making,
        earlier=("r5",),
    )


@pytest.mark.parametrize("variant", sorted(LEFT_OUT))
def test_no_run_is_given_the_oracle(variant: str) -> None:
    assert set(given(replace(CELL, variant=variant), REQUEST)) == set(FILES) - set(LEFT_OUT[variant])


def test_a_run_has_no_option_but_what_the_row_says() -> None:
    assert plan_of(CELL) == {}
    assert plan_of(replace(CELL, seed=2)) == {"training": {"seed": 2}}
    assert plan_of(replace(CELL, variant="lora")) == {"scope": {"kind": "lora"}}


def test_random_edit_is_as_large_as_the_first_method_of_its_request() -> None:
    def done(method: str, size: float | None, **other: Any) -> dict[str, Any]:
        values = {"world": "w", "request": "one", "seed": 0, "variant": "default", "rates": "searched"}
        return {**values, "method": method, "distance": size, **other}

    cell = replace(CELL, method="random_edit")
    rows = [done("npo", 9.0, world="v"), done("oracle", 8.0), done("npo", None), done("icu", 2.0), done("npo", 3.0)]
    assert size_of_edit(cell, rows) == 2.0
    assert size_of_edit(cell, rows[:3]) is None


def score(value: float, by_id: dict[str, float]) -> Score:
    return Score("m", value, None, None, len(by_id), 0, Direction.LOWER, "u", 1, by_id)


def test_nats_by_hand() -> None:
    """A perplexity of e² is 2 nats; probabilities 1/e and 1/e³ are 2 nats in the mean."""
    e = 2.718281828459045
    assert nats({"ppl": score(e**2, {})}) == pytest.approx(2.0)
    assert nats({"accuracy": score(1, {}), "prob": score(0, {"a": 1 / e, "b": 1 / e**3})}) == pytest.approx(2.0)


@pytest.mark.slow
def test_rows_of_a_world(world: World, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    rows: list[dict[str, Any]] = []
    for method in ("grad_diff", *CONTROLS):
        row = runs.row(Cell("tiny", "tenth", method, rates="papers"), world, rows)
        assert row is not None
        assert json.loads(json.dumps(row)) == row
        rows.append(row)
    ours, nothing, oracle, noise = rows
    assert nothing["scores"]["after"] == nothing["scores"]["before"] == ours["scores"]["before"]
    assert oracle["scores"]["after"] == oracle["scores"]["oracle"]
    assert (ours["rows"], ours["level"]) == ({"forget": 2, "retain": 10}, None)
    assert noise["distance"] == pytest.approx(ours["distance"], rel=1e-3)
    assert ours["distance"] > 0
    assert 0 < ours["cost"] < 10
    assert set(ours["relearned"]) == set(ours["oracle_relearned"]) == {"es", "ma"}
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.slow
def test_after_an_earlier_request(world: World, tmp_path: Path) -> None:
    row = Runs(tmp_path / "runs", relearn=False, keep=True).row(
        Cell("tiny", "tenth", "grad_diff", variant="after", rates="papers"), world
    )
    assert row is not None
    assert row["rows"] == {"forget": 2, "retain": 9}
    (earlier,) = (tmp_path / "runs").glob("earlier-*")
    assert distance(world.learned, earlier) > 0
    assert json.loads((earlier / "learned.json").read_text())["parts"]
    oracle = RunResult.load(world.folder / "tenth-after" / "oracle" / "result.json")
    assert oracle.sets["learn"].n == 9
    assert level_of(oracle, "text") is None


@pytest.mark.slow
def test_a_refused_run_is_a_row_that_did_not_pass(world: World, tmp_path: Path) -> None:
    row = Runs(tmp_path / "runs", relearn=False).row(Cell("tiny", "tenth", "salun", seed=-1), world)
    assert row is not None
    assert not row["passed"]
    assert "seed" in row["error"]


@pytest.mark.slow
def test_a_world_that_is_not_known_is_refused(world: World, tmp_path: Path) -> None:
    short = fixed({**QUICKLY, "max_steps": 1}, {"metrics": ["es"]})
    with pytest.raises(WorldError, match=r"es stays below 0.95, so nothing is there to forget"):
        teach(tmp_path, world.base, {"learn": world.folder / "data" / "learn.jsonl"}, short, "completion")


@pytest.mark.slow
def test_command_skips_the_rows_that_are_there(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[str] = []
    monkeypatch.setattr(command, "build_world", lambda name, data, cache: built.append(name) or world)
    rows = str(tmp_path / "rows.jsonl")
    arguments = ["--data", str(tmp_path), "--cache", str(tmp_path), "--worlds", "tiny", "--requests", "tenth"]
    arguments += ["--json", rows]
    for methods in ("oracle", "nothing,oracle", "nothing,oracle"):
        monkeypatch.setattr("sys.argv", ["x", *arguments, "--methods", methods])
        assert command.main("text") == 0
    assert [row["method"] for row in command.read_rows(Path(rows))] == ["oracle", "nothing"]
    assert built == ["tiny", "tiny"]
    monkeypatch.setattr("sys.argv", ["x", "--table", rows])
    assert command.main("text") == 0
    assert "| text | nothing | 1 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--data FOLDER is needed"),
        (("--table", "nowhere.jsonl"), "--table: no file nowhere.jsonl"),
        (("--data", ".", "--methods", "icu,nope"), "--methods: no 'nope'; accepted, joined by commas: icu"),
        (("--data", ".", "--worlds", "nowhere"), "no world 'nowhere'"),
        (("--data", ".", "--images", "--worlds", "nowhere"), "no world 'nowhere' with --images"),
        (("--data", ".", "--variants", "nope"), "--variants: no 'nope'"),
        (("--data", ".", "--seeds", "one"), "--seeds: 'one'"),
    ],
)
def test_wrong_usage(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["x", *arguments])
    assert command.main("text") == 2
    assert message in capsys.readouterr().err


def test_controls_are_not_repeated() -> None:
    asked = command.parser("text").parse_args(["--seeds", "0,1", "--variants", "default,bare", "--requests", "one"])
    cells = list(command.chosen_cells(asked, "w"))
    found = {method: sum(cell.method == method for cell in cells) for method in ("icu", *CONTROLS)}
    assert found == {"icu": 4, "nothing": 1, "oracle": 1, "random_edit": 2}
